import { expect, test } from 'vitest'
import { refuseTooLarge } from './limits.ts'

const LIMITS = { memoryMib: 4096, vcpus: 4 }

test('a machine that this host can never start is refused, naming the field and the limit', () => {
  expect(() => refuseTooLarge(LIMITS, LIMITS)).not.toThrow()
  expect(() => refuseTooLarge({ memoryMib: 4097, vcpus: 1 }, LIMITS)).toThrow(
    expect.objectContaining({
      code: 'machine_too_large',
      field: 'memoryMib',
      message: expect.stringContaining('4096'),
    }),
  )
  expect(() => refuseTooLarge({ memoryMib: 512, vcpus: 5 }, LIMITS)).toThrow(
    expect.objectContaining({ code: 'machine_too_large', field: 'vcpus' }),
  )
})
