import { setImmediate as tick } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { SharedTurns } from './shared-turns.ts'

test('steps alone wait for everything before them; steps together run side by side', async () => {
  const turns = new SharedTurns()
  const log: string[] = []
  const gates = new Map<string, () => void>()
  const step = (name: string) => async () => {
    log.push(`${name} begins`)
    await new Promise<void>((resolve) => gates.set(name, resolve))
    log.push(`${name} ends`)
  }
  const open = async (name: string) => {
    gates.get(name)?.()
    await tick()
  }
  const all = [turns.alone(step('first')), turns.together(step('a')), turns.together(step('b'))]
  await tick()
  expect(log).toEqual(['first begins'])
  await open('first')
  expect(log.slice(1)).toEqual(['first ends', 'a begins', 'b begins'])
  all.push(turns.alone(step('last')), turns.together(step('c')))
  await open('a')
  expect(log.slice(4)).toEqual(['a ends'])
  await open('b')
  expect(log.slice(5)).toEqual(['b ends', 'last begins'])
  await open('last')
  expect(log.slice(7)).toEqual(['last ends', 'c begins'])
  await open('c')
  await Promise.all(all)
})

test('a step that fails tells its caller, and holds nobody up', async () => {
  const turns = new SharedTurns()
  const fail = () => Promise.reject(new Error('no'))
  await expect(turns.alone(fail)).rejects.toThrow('no')
  await expect(turns.together(fail)).rejects.toThrow('no')
  await turns.over()
  expect(await turns.alone(async () => 1)).toBe(1)
})
