import { once } from 'node:events'
import { afterEach, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { createClient } from '../client/client.ts'
import type { ShellConnection } from '../client/types.ts'
import { VivariumError } from '../contracts/errors.ts'
import { MachineRequest } from '../contracts/machine.ts'
import { createApp } from './app.ts'
import { listen } from './listen.ts'
import { fakeOptions, fakeServices } from './testing/fake-services.ts'

let stack = new AsyncDisposableStack()
afterEach(() => stack.disposeAsync())

async function setUp() {
  stack = new AsyncDisposableStack()
  const fakes = fakeServices()
  const server = stack.use(await listen(createApp(fakes.services, fakeOptions).fetch, { host: '127.0.0.1', port: 0 }))
  const { vms } = createClient({ url: server.url, apiKey: 'vv_ada' })
  const { id } = await fakes.machines.create(fakes.identity.ada.id, MachineRequest.parse({}))
  const open = async (options: Parameters<typeof vms.shell>[1] = { terminal: { rows: 24, cols: 80 } }) => {
    const connection = await vms.shell(id, options)
    stack.defer(() => connection.close())
    return { connection, shell: await fakes.machines.nextShell() }
  }
  /** A socket of a client that is not ours. */
  const socketTo = (query: string, headers: Record<string, string> = {}) => {
    const socket = new WebSocket(`${server.url.replace('http', 'ws')}/api/v1/vms/${id}/shell${query}`, {
      headers: { authorization: 'Bearer vv_ada', ...headers },
    })
    stack.defer(() => socket.terminate())
    return socket
  }
  return { ...fakes, server, vms, id, open, socketTo }
}

/** All that is said until the end. */
async function heard({ output }: ShellConnection) {
  const said = { stdout: '', stderr: '', exitCode: -1 }
  for await (const piece of output) {
    if (piece.kind === 'exit') said.exitCode = piece.exitCode
    else said[piece.kind] += piece.data.toString()
  }
  return said
}

test('a terminal: bytes both ways, its size told at the start and later, the exit code last', async () => {
  const { open } = await setUp()
  const { connection, shell } = await open({ terminal: { rows: 24, cols: 80, term: 'tmux' }, argv: ['vi', 'a b'] })
  expect(shell.request).toEqual({ argv: ['vi', 'a b'], terminal: { rows: 24, cols: 80, term: 'tmux' } })
  await connection.write(Buffer.from([0xff, 0, 0x1b]))
  await connection.resize({ rows: 50, cols: 120 })
  await connection.write(Buffer.from('x'.repeat(200_000)))
  await connection.write(Buffer.from('\x04'))
  const { stdout, exitCode } = await heard(connection)
  expect(exitCode).toBe(3)
  expect(stdout).toBe(`\ufffd\0\x1b50x120\r\n${'x'.repeat(200_000)}\x04`)
  await shell.closed
})

test('without a size there are pipes: stderr apart, and an end of the input', async () => {
  const { open } = await setUp()
  const { connection, shell } = await open({})
  expect(shell.request).toEqual({ argv: undefined, terminal: undefined })
  await connection.write(Buffer.from('in'))
  shell.print('oops', 'stderr')
  await connection.end()
  expect(await heard(connection)).toEqual({ stdout: 'in', stderr: 'oops', exitCode: 3 })
})

test('a client that leaves closes the shell', async () => {
  const { open } = await setUp()
  const { connection, shell } = await open()
  connection.close()
  await shell.closed
  const abort = new AbortController()
  const second = await open({ signal: abort.signal })
  abort.abort(new Error('enough'))
  await expect(heard(second.connection)).rejects.toThrow('enough')
  await second.shell.closed
})

test('a client that does not read holds the process back, and misses nothing', async () => {
  const { open } = await setUp()
  const { connection, shell } = await open()
  for (let n = 0; n < 50; n++) shell.print(Buffer.alloc(1_000_000, 'x'))
  shell.exit(0)
  await expect.poll(() => shell.taken).toBeGreaterThan(1)
  // The kernel's buffers take some megabytes; without back-pressure all fifty would have been taken.
  await connection.resize({ rows: 1, cols: 1 })
  expect(shell.taken).toBeLessThan(30)
  const { stdout, exitCode } = await heard(connection)
  expect({ exitCode, length: stdout.replace('1x1\r\n', '').length }).toEqual({ exitCode: 0, length: 50_000_000 })
})

test('a process that does not read holds the client back', async () => {
  const { open } = await setUp()
  const { connection, shell } = await open()
  const reading = Promise.withResolvers<void>()
  shell.reading = reading.promise
  const total = 40_000_000
  let sent = 0
  const sending = (async () => {
    for (; sent < total; sent += 1_000_000) await connection.write(Buffer.alloc(1_000_000, 'x'))
    await connection.end()
  })()
  const settled = async () => {
    const before = sent
    await new Promise((resolve) => setTimeout(resolve, 200))
    return sent === before
  }
  await expect.poll(settled, { timeout: 10_000 }).toBe(true)
  expect(sent).toBeLessThan(total)
  expect(shell.typed).toBe('')
  reading.resolve()
  const { stdout } = await heard(connection)
  await sending
  expect(stdout.length).toBe(total)
})

test('a text message that breaks the rules ends the shell, saying so', async () => {
  for (const message of [
    '',
    'ls',
    '{"type":"resize","rows":0,"cols":80}',
    '{"type":"resize","rows":1e9,"cols":1}',
    '[]',
  ]) {
    const { machines, socketTo } = await setUp()
    const socket = socketTo('?rows=24&cols=80')
    const told = once(socket, 'message')
    await once(socket, 'open')
    socket.send(message)
    const closed = once(socket, 'close')
    const [data] = await told
    expect(JSON.parse(String(data))).toMatchObject({ type: 'problem', problem: { code: 'invalid_request' } })
    expect((await closed)[0]).toBe(1011)
    await (
      await machines.nextShell()
    ).closed
    await stack.disposeAsync()
  }
})

test('why there is no shell is told: before the connection stands, and where it is only found out then', async () => {
  const { vms, id, machines, open } = await setUp()
  await expect(vms.shell('vm_0123456789ab')).rejects.toMatchObject({ code: 'not_found' })
  await expect(vms.shell(id, { terminal: { rows: 0, cols: 80 } })).rejects.toMatchObject({ field: 'rows' })
  await expect(vms.shell(id, { argv: ['x'.repeat(5000)] })).rejects.toMatchObject({ field: 'arg' })
  machines.refuseShell = new VivariumError('queue_full', 'There is no room to resume it.')
  const connection = await vms.shell(id)
  await expect(heard(connection)).rejects.toMatchObject({
    code: 'queue_full',
    message: 'There is no room to resume it.',
  })
  machines.refuseShell = undefined
  const { shell } = await open()
  shell.exit(0)
})

test('shells pass the same gate as every request', async () => {
  const { machines, socketTo } = await setUp()
  const refused = async (query: string, headers: Record<string, string>) => {
    const [error] = await once(socketTo(query, headers), 'error')
    return String(error)
  }
  expect(await refused('', { authorization: '' })).toContain('401')
  expect(await refused('', { origin: 'http://evil.example' })).toContain('403')
  expect(await refused('', { host: 'evil.example' })).toContain('403')
  expect(await refused('', { authorization: 'Bearer vv_owner' })).toContain('404')
  expect(await refused('?rows=24', {})).toContain('400')
  expect(await refused('?rows=24&cols=80&term=a%20b', {})).toContain('400')
  expect(machines.shells).toEqual([])
})
