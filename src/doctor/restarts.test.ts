import { expect, test } from 'vitest'
import { judgeRestarts } from './restarts.ts'

test('where the server is process 1 of a container, it is said that machines end with it', () => {
  expect(judgeRestarts('pid:[4026532001]', 1)).toMatchObject({
    status: 'warning',
    detail: expect.stringMatching(/process 1/),
  })
  expect(judgeRestarts('pid:[4026532001]', 17)).toMatchObject({
    status: 'ok',
    detail: expect.stringMatching(/container/),
  })
  expect(judgeRestarts('pid:[4026531836]', undefined)).toEqual({
    name: 'restarts',
    status: 'ok',
    detail: 'machines run on while the server is restarted or upgraded',
    fix: null,
  })
})
