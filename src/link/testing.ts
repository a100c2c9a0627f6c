import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createGuestLink } from './link.ts'
import type { GuestLinkOptions } from './options.ts'
import { preambleLine, PreambleScanner } from './scanner.ts'
import type { GuestLink } from './types.ts'

const AGENT = fileURLToPath(new URL('../../guest/main.ts', import.meta.url))

/** A folder with a workspace and the two listening sockets of a machine, and a link on one of them. */
export interface TestHost extends AsyncDisposable {
  folder: string
  workspace: string
  link: GuestLink
  /** Control connections so far, newest last. */
  controls: Socket[]
}

/** Listens as a machine's host does. `egress` takes the guest's egress connections. */
export async function startTestHost(
  options: Partial<GuestLinkOptions> = {},
  egress: (socket: Socket) => void = (socket) => void socket.on('error', () => undefined),
): Promise<TestHost> {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'viv-'))
  stack.defer(() => rmSync(folder, { recursive: true, force: true }))
  const workspace = join(folder, 'workspace')
  mkdirSync(workspace)
  const link = stack.use(createGuestLink({ name: 'vm_test', timeScale: 1, ...options }))
  const controls: Socket[] = []
  const accept = (socket: Socket) => {
    controls.push(socket)
    link.accept(socket)
  }
  for (const [name, take] of [['control', accept] as const, ['egress', egress] as const])
    stack.defer(await listen(join(folder, `${name}.sock`), take))
  const owned = stack.move()
  return { folder, workspace, link, controls, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

async function listen(path: string, take: (socket: Socket) => void): Promise<() => Promise<void>> {
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    take(socket)
  }).listen(path)
  await once(server, 'listening')
  return async () => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  }
}

export interface TestAgent extends AsyncDisposable {
  pid: number
  proxyPort: number
  anthropicPort: number
  upstreamPort: number
}

/** Runs the real agent from source, connected to a test host. */
export async function startTestAgent(host: TestHost, args = ['--no-setuid']): Promise<TestAgent> {
  const common = ['--connect', host.folder, '--state', join(host.folder, 'state')]
  const ports = ['--proxy-port', '0', '--anthropic-port', '0', '--upstream-port', '0']
  const agent = spawn(process.execPath, [AGENT, ...common, ...ports, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(agent, 'exit')
  const [line] = (await once(agent.stdout, 'data')) as [Buffer]
  const listening = JSON.parse(line.toString()) as Pick<TestAgent, 'proxyPort' | 'anthropicPort' | 'upstreamPort'>
  return {
    pid: agent.pid ?? 0,
    ...listening,
    async [Symbol.asyncDispose]() {
      agent.kill('SIGKILL')
      await exited
    },
  }
}

/** A connection to the host's control socket, as a guest opens it. */
export async function dialAsGuest(host: TestHost): Promise<Socket> {
  const socket = connect(join(host.folder, 'control.sock')).on('error', () => undefined)
  await once(socket, 'connect')
  return socket
}

/** A connection whose preamble is done as an honest agent does it. */
export async function dialSession(host: TestHost): Promise<Socket> {
  const socket = await dialAsGuest(host)
  const scanner = new PreambleScanner()
  await new Promise<void>((resolve) => {
    const onData = (chunk: Buffer) => {
      scanner.push(chunk)
      for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
        if (line.verb === 'hello') socket.write(preambleLine('echo', line.nonce))
        if (line.verb !== 'go') continue
        socket.off('data', onData).pause()
        if (scanner.rest().length > 0) socket.unshift(scanner.rest())
        socket.write(preambleLine('ready', line.nonce), () => resolve())
      }
    }
    socket.on('data', onData)
  })
  return socket
}
