import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { listenForVmm } from './sockets.ts'

async function listening() {
  const folder = await mkdtemp(join(tmpdir(), 'sockets-'))
  const path = join(folder, 'control.sock')
  const accepted: Socket[] = []
  const server = await listenForVmm(path, process.getuid?.(), (socket) => accepted.push(socket))
  return {
    path,
    folder,
    accepted,
    server,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      await rm(folder, { recursive: true })
    },
  }
}

test('the newest connection counts: the one before is ended', async () => {
  await using host = await listening()
  const first = connect(host.path)
  await once(first, 'connect')
  const ended = once(first.resume(), 'close')
  const second = connect(host.path)
  await once(second, 'connect')
  await ended
  expect(host.accepted.map(({ destroyed }) => destroyed)).toEqual([true, false])
  second.destroy()
})

test('a connection that breaks does not break the host', async () => {
  await using host = await listening()
  const vmm = connect(host.path)
  await expect.poll(() => host.accepted.length).toBe(1)
  const [socket] = host.accepted
  socket?.destroy(new Error('broken'))
  await once(vmm.resume(), 'close')
  expect(socket?.destroyed).toBe(true)
})

test('closing ends the connection and removes the socket', async () => {
  await using host = await listening()
  const vmm = connect(host.path)
  await expect.poll(() => host.accepted.length).toBe(1)
  expect((await stat(host.path)).isSocket()).toBe(true)
  const closed = once(vmm.resume(), 'close')
  await host.server[Symbol.asyncDispose]()
  await closed
  expect(await readdir(host.folder)).toEqual([])
})
