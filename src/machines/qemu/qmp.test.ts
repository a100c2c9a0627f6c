import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Qmp } from './qmp.ts'

const GREETING = '{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}\r\n'
const DEADLINE = AbortSignal.timeout(20_000)

/** A monitor that greets, accepts `qmp_capabilities`, and leaves the rest to the test. */
async function monitor(onCommand: (command: { execute: string; id: number }, socket: Socket) => void) {
  const folder = await mkdtemp(join(tmpdir(), 'qmp-'))
  const path = join(folder, 'qmp.sock')
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.write(GREETING)
    socket.on('data', (data) => {
      for (const line of data.toString().trim().split('\n')) {
        const command: { execute: string; id: number } = JSON.parse(line)
        if (command.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${command.id}}\r\n`)
        else onCommand(command, socket)
      }
    })
  })
  onTestFinished(async () => {
    server.close()
    await rm(folder, { recursive: true })
  })
  return { path, listen: () => server.listen(path) }
}

test('connects as soon as QEMU listens, answers commands and tells events', async () => {
  const { path, listen } = await monitor(({ id }, socket) =>
    socket.write(`{"event": "STOP", "data": {"a": 1}}\r\n{"return": {"status": "running"}, "id": ${id}}\r\n`),
  )
  setTimeout(listen, 50)
  const qmp = await Qmp.connect(path, DEADLINE)
  const stopped = once(qmp, 'qemu:STOP')
  expect(await qmp.execute('query-status')).toEqual({ status: 'running' })
  expect(await stopped).toEqual([{ a: 1 }])
  qmp.close()
})

test('a refusal and a sudden end reject with QEMU named', async () => {
  const { path, listen } = await monitor(({ execute, id }, socket) => {
    if (execute === 'bad')
      socket.write(`{"error": {"class": "GenericError", "desc": "no such thing"}, "id": ${id}}\r\n`)
    else socket.destroy()
  })
  listen()
  const qmp = await Qmp.connect(path, DEADLINE)
  await expect(qmp.execute('bad')).rejects.toMatchObject({
    code: 'engine_failed',
    message: 'QEMU refused: no such thing',
  })
  await expect(qmp.execute('die')).rejects.toMatchObject({ code: 'engine_failed' })
  await expect(qmp.execute('late')).rejects.toMatchObject({ code: 'engine_failed' })
})

test.each(['not json\r\n', '{"event": 5}\r\n', 'x'.repeat(2 * 1024 * 1024), '{"event": "error"}\r\nnull\r\n'])(
  'a monitor taken over by its guest only loses its connection (case %#)',
  async (garbage) => {
    const { path, listen } = await monitor((_, socket) => socket.write(garbage))
    listen()
    const qmp = await Qmp.connect(path, DEADLINE)
    await expect(qmp.execute('query-status')).rejects.toMatchObject({ code: 'engine_failed' })
  },
)

test('waiting for a QEMU that never listens ends with the signal', async () => {
  const { path } = await monitor(() => {})
  const reason = new Error('enough')
  const controller = new AbortController()
  setTimeout(() => controller.abort(reason), 30)
  await expect(Qmp.connect(path, controller.signal)).rejects.toBe(reason)
})

test('a command that is never answered ends by its deadline', async () => {
  const { path, listen } = await monitor(() => {})
  listen()
  const qmp = await Qmp.connect(path, DEADLINE)
  await expect(qmp.execute('query-status', {}, 20)).rejects.toMatchObject({
    code: 'engine_failed',
    message: 'QEMU did not answer query-status in 0.02 s.',
  })
  qmp.close()
})

test('a QEMU that listens but does not negotiate keeps nobody beyond the signal', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'qmp-'))
  const server = createServer((socket) => void socket.on('error', () => {})).listen(join(folder, 'qmp.sock'))
  onTestFinished(async () => {
    server.close()
    await rm(folder, { recursive: true })
  })
  const controller = new AbortController()
  const connecting = Qmp.connect(join(folder, 'qmp.sock'), controller.signal)
  await once(server, 'connection')
  controller.abort(new Error('enough'))
  await expect(connecting).rejects.toThrow('enough')
})

test('a monitor that makes us ask without end and never answers loses its connection', async () => {
  const { path, listen } = await monitor(() => {})
  listen()
  const qmp = await Qmp.connect(path, DEADLINE)
  const asked = Array.from({ length: 200 }, () => qmp.execute('query-status'))
  for (const outcome of await Promise.allSettled(asked)) expect(outcome.status).toBe('rejected')
})
