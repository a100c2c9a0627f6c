import { randomBytes } from 'node:crypto'
import { afterEach, expect, test } from 'vitest'
import { Kernel } from './kernel.ts'

/** Nobody, so that the kernel refuses what would change this machine. */
const NOBODY = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

let kernel: Kernel

afterEach(() => kernel.close())

test('what the kernel refuses is an error that says so, for each call', async () => {
  kernel = new Kernel(NOBODY)
  await expect(kernel.setClock(Date.now())).rejects.toThrow('Operation not permitted')
  await expect(kernel.addEntropy(randomBytes(64).toString('hex'))).rejects.toThrow('Operation not permitted')
  await expect(kernel.bind('/nowhere', '/nowhere')).rejects.toThrow('No such file or directory')
})

test('a helper that has died is replaced, also in the middle of calls', async () => {
  kernel = new Kernel(NOBODY)
  const calls = [kernel.setClock(0), kernel.setClock(0)]
  kernel.close()
  for (const call of calls) await expect(call).rejects.toThrow('Operation not permitted')
})
