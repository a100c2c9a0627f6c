import { once } from 'node:events'
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http2'
import { type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newId } from '../src/contracts/ids.ts'
import { startSession } from '../src/link/preamble.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../src/link/testing.ts'

const NEVER = new AbortController().signal

let host: TestHost
let agent: TestAgent
let gateway: Http2Server
let egress: Socket[]
/** The connections of a machine that is saved are nobody's. */
let gatewayHolds: boolean
let answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

function serveEgress(socket: Socket): void {
  startSession(socket, { deadlineMs: 10_000 }).then(
    () => gateway.emit('connection', socket),
    () => undefined,
  )
}

beforeEach(async () => {
  egress = []
  gatewayHolds = false
  gateway = createHttp2Server()
  gateway.on('sessionError', () => undefined)
  gateway.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    answer(stream as ServerHttp2Stream, headers)
  })
  host = await startTestHost({}, (socket) => {
    egress.push(socket.on('error', () => undefined))
    if (!gatewayHolds) serveEgress(socket)
  })
  agent = await startTestAgent(host)
  await host.link.hello({ hostname: 'vm-test' }, NEVER)
})

afterEach(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

/** Parks the agent and waits until it rests: on both streams it has dialled anew. */
async function park(drainMs = 0): Promise<void> {
  gatewayHolds = true
  const before = [host.controls.length, egress.length]
  await host.link.park({ drainMs })
  await expect.poll(() => [host.controls.length, egress.length]).toEqual(before.map((count) => count + 1))
}

/** What a machine that goes on in another VMM sees: its connections are new. */
async function goOnElsewhere(): Promise<void> {
  const before = [host.controls.length, egress.length]
  host.controls.at(-1)?.destroy()
  egress.at(-1)?.destroy()
  await expect.poll(() => [host.controls.length, egress.length]).toEqual(before.map((count) => count + 1))
  const socket = egress.at(-1)
  if (socket === undefined) throw new Error('no egress connection')
  gatewayHolds = false
  serveEgress(socket)
  host.link.wake()
}

function ask(path: string, method = 'GET'): Promise<IncomingMessage> {
  const call = request({ host: '127.0.0.1', agent: false, port: agent.anthropicPort, path, method })
  call.end()
  return once(call, 'response').then(([response]) => response as IncomingMessage)
}

function answerText(body: string): typeof answer {
  return (stream) => {
    stream.respond({ ':status': 200 })
    stream.end(body)
  }
}

test('output goes on without gap or repetition across parks, on new connections', async () => {
  const id = newId('x')
  const script = 'for i in $(seq 400); do echo line $i; sleep 0.005; done'
  const spec = { argv: ['bash', '-c', script], env: {}, cwd: host.workspace, user: 'agent' as const }
  await host.link.start(id, { ...spec, stdin: 'none' })
  const received: Buffer[] = []
  const reading = (async () => {
    for await (const piece of host.link.output(id, 0))
      if (piece.kind === 'exit') return piece.exit
      else received.push(piece.data)
  })()
  for (let round = 1; round <= 3; round += 1) {
    await expect.poll(() => received.length).toBeGreaterThan(round * 5)
    await park()
    const before = received.length
    await goOnElsewhere()
    await host.link.hello({ hostname: 'vm-test' }, NEVER)
    await expect.poll(() => received.length).toBeGreaterThan(before)
  }
  expect(await reading).toMatchObject({ code: 0 })
  const lines = Array.from({ length: 400 }, (_, index) => `line ${index + 1}\n`)
  expect(Buffer.concat(received).toString()).toBe(lines.join(''))
})

test('a parked guest and its host say nothing to each other', async () => {
  await park()
  // The agent would answer by now whatever it had been told.
  await new Promise((resolve) => setTimeout(resolve, 600))
  const sockets = [host.controls.at(-1), egress.at(-1)]
  expect(sockets.map((socket) => [socket?.bytesWritten, socket?.bytesRead])).toEqual([
    [0, 0],
    [0, 0],
  ])
  await goOnElsewhere()
  await host.link.hello({ hostname: 'vm-test' }, NEVER)
})
