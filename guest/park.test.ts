import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http2'
import { type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
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
  answer = answerText('there')
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

/** A request to the model's API, of a program in the guest. */
async function askModel(): Promise<IncomingMessage> {
  const call = request({ host: '127.0.0.1', agent: false, port: agent.anthropicPort, path: '/v1/messages' }).end()
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  return response
}

function connectThrough(authority: string): Socket {
  const socket = connect(agent.proxyPort, '127.0.0.1').on('error', () => undefined)
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
  return socket
}

/** A tunnel that is open; resolves with what resolves when it is cut. */
async function openTunnel(): Promise<{ cut: Promise<unknown> }> {
  const opened = answerSlowly('')
  const socket = connectThrough('registry.example:443')
  await once(socket, 'data')
  await opened
  return { cut: once(socket.resume(), 'close') }
}

/** Answers with a head and `first`, and hands over the stream. */
function answerSlowly(first: string): Promise<ServerHttp2Stream> {
  return new Promise((resolve) => {
    answer = (stream) => {
      stream.respond({ ':status': 200 })
      stream.write(first)
      resolve(stream)
    }
  })
}

function answerText(body: string): typeof answer {
  return (stream) => {
    stream.respond({ ':status': 200 })
    stream.end(body)
  }
}

test('output goes on without gap or repetition across parks, on new connections', async () => {
  const content = randomBytes(20_000_000)
  writeFileSync(join(host.workspace, 'random'), content)
  const id = newId('x')
  // Some of it comes while the guest is parked.
  const argv = [
    'bash',
    '-c',
    'for i in 0 1 2 3; do tail -c +$((i * 5000000 + 1)) random | head -c 5000000; sleep 0.2; done',
  ]
  await host.link.start(id, { argv, env: {}, cwd: host.workspace, user: 'agent', stdin: 'none' })
  const hash = createHash('sha256')
  let received = 0
  const reading = (async () => {
    for await (const piece of host.link.output(id, 0)) {
      if (piece.kind === 'exit') return piece.exit
      hash.update(piece.data)
      received += piece.data.length
    }
    throw new Error('there was no exit')
  })()
  for (let round = 0; round < 4; round += 1) {
    await expect.poll(() => received, { interval: 1 }).toBeGreaterThan(round * 4_000_000)
    await park()
    const before = received
    await goOnElsewhere()
    await host.link.hello({ hostname: 'vm-test' }, NEVER)
    await expect.poll(() => received).toBeGreaterThan(before)
  }
  expect(await reading).toMatchObject({ code: 0 })
  expect(received).toBe(content.length)
  expect(hash.digest('hex')).toBe(createHash('sha256').update(content).digest('hex'))
})

test('requests of guest programs wait while the guest is parked, and go out once it was introduced again', async () => {
  await park()
  const asked: string[] = []
  answer = (stream, headers) => {
    asked.push(`${headers[':method']} ${headers[':authority']}${headers[':path'] ?? ''}`)
    answerText('there')(stream, headers)
  }
  const model = askModel()
  const tunnel = connectThrough('registry.example:443')
  const abandoned = request({ host: '127.0.0.1', port: agent.anthropicPort, path: '/abandoned' }).on('error', () => {})
  await once(abandoned.end(), 'finish')
  abandoned.destroy()
  await goOnElsewhere()
  // The way out is up, but the clock may still be wrong.
  await host.link.exec({ argv: ['true'], env: {}, cwd: host.workspace, user: 'agent' as const }, { timeoutMs: 20_000 })
  expect(asked).toEqual([])
  await host.link.hello({ hostname: 'vm-test' }, NEVER)
  expect(await text(await model)).toBe('there')
  expect(await text(tunnel)).toContain('200 Connection Established')
  expect(asked.toSorted()).toEqual(['CONNECT registry.example:443', 'GET anthropic.upstream/v1/messages'])
})

test('a model request under way may end before the guest is parked, other traffic is cut', async () => {
  const { cut } = await openTunnel()
  const answering = answerSlowly('first, ')
  const response = await askModel()
  const parked = park(20_000)
  await cut
  const stream = await answering
  stream.end('last')
  expect(await text(response)).toBe('first, last')
  await parked
})

test('a model request that does not end in time is cut, and does not look complete', async () => {
  const answering = answerSlowly('first')
  const response = await askModel()
  const stream = await answering
  const reset = once(stream, 'close')
  await park(50)
  await expect(text(response)).rejects.toThrow('aborted')
  await reset
})

test('a park that its host gives up lets the guest go on', async () => {
  const answering = answerSlowly('first, ')
  const response = await askModel()
  const stream = await answering
  const abort = new AbortController()
  const { cut } = await openTunnel()
  const parking = host.link.park({ drainMs: 20_000 }, abort.signal)
  parking.catch(() => undefined)
  await cut
  // Waits behind the gate until the park is given up.
  const waiting = askModel()
  abort.abort()
  await expect(parking).rejects.toMatchObject({ code: 'cancelled' })
  answer = answerText('there')
  expect(await text(await waiting)).toBe('there')
  stream.end('last')
  expect(await text(response)).toBe('first, last')
})

test('a machine that could not be saved goes on where it is', async () => {
  gatewayHolds = true
  await host.link.park({ drainMs: 0 })
  gatewayHolds = false
  host.link.wake()
  for (const socket of egress) socket.destroy()
  await host.link.hello({ hostname: 'vm-test' }, NEVER)
  expect(await text(await askModel())).toBe('there')
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
