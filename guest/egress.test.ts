import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttp2Server, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import type { IncomingHttpHeaders } from 'node:http2'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startSession } from '../src/link/preamble.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../src/link/testing.ts'

let host: TestHost
let agent: TestAgent
let gateway: Http2Server
let connections: Socket[]
/** Connections are taken, as a port of a machine is, but nobody speaks on them. */
let isAway: boolean
let answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

beforeEach(async () => {
  connections = []
  isAway = false
  gateway = createHttp2Server()
  gateway.on('sessionError', () => undefined)
  gateway.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    answer(stream as ServerHttp2Stream, headers)
  })
  host = await startTestHost({}, (socket) => {
    connections.push(socket.on('error', () => undefined))
    if (isAway) return
    startSession(socket, { deadlineMs: 10_000 }).then(
      () => gateway.emit('connection', socket),
      () => undefined,
    )
  })
  agent = await startTestAgent(host)
})

afterEach(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

async function ask(options: {
  port: number
  path: string
  method?: string
  body?: Buffer
  headers?: Record<string, string>
}) {
  const call: ClientRequest = request({ host: '127.0.0.1', agent: false, ...options })
  call.end(options.body)
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  return response
}

/** Cuts the way out, as a gateway that is killed does. */
function cut(): void {
  connections.at(-1)?.destroy()
}

/** Cuts it, and stays away until the function given back is called. */
async function goAway(): Promise<() => void> {
  const before = connections.length
  isAway = true
  cut()
  await expect.poll(() => connections.length).toBeGreaterThan(before)
  return () => {
    isAway = false
    cut()
  }
}

const MODEL_POST = { method: 'POST', path: '/v1/messages' }

async function openTunnel(authority: string): Promise<{ status: string; socket: Socket }> {
  const socket = connect(agent.proxyPort, '127.0.0.1').on('error', () => undefined)
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
  const [head] = (await once(socket, 'data')) as [Buffer]
  socket.pause()
  return { status: head.toString().split('\r\n')[0] ?? '', socket }
}

test('CONNECT carries bytes both ways, also after one side has ended', async () => {
  const seen: unknown[] = []
  answer = (stream, headers) => {
    seen.push(headers[':method'], headers[':authority'])
    stream.respond({ ':status': 200 })
    // Answers when the client has said everything.
    void buffer(stream).then((sent) => stream.end(createHash('sha256').update(sent).digest('hex')))
  }
  const { status, socket } = await openTunnel('registry.example:443')
  expect(status).toBe('HTTP/1.1 200 Connection Established')
  const content = randomBytes(5_000_000)
  socket.end(content)
  expect(await text(socket)).toBe(createHash('sha256').update(content).digest('hex'))
  expect(seen).toEqual(['CONNECT', 'registry.example:443'])
})

test('a refused CONNECT says why', async () => {
  answer = (stream) => {
    stream.respond({ ':status': 403 })
    stream.end('evil.example is not on the list')
  }
  const socket = connect(agent.proxyPort, '127.0.0.1')
  socket.write('CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n')
  const all = await text(socket)
  expect(all).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/)
  expect(all).toContain('evil.example is not on the list')
})

test('a client that goes away ends its stream at the gateway, however much is still sent to it', async () => {
  const opened = Promise.withResolvers<ServerHttp2Stream>()
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    opened.resolve(stream)
  }
  const { socket } = await openTunnel('registry.example:443')
  const stream = await opened.promise
  socket.destroy()
  const closed = once(stream, 'close')
  stream.resume()
  await once(stream, 'end')
  const chunk = Buffer.alloc(64 * 1024)
  const flood = setInterval(() => stream.write(chunk), 10)
  await closed
  clearInterval(flood)
  expect(stream.destroyed).toBe(true)
})

test('plain HTTP goes on with its authority, without hop-by-hop headers', async () => {
  let seen: IncomingHttpHeaders = {}
  answer = (stream, headers) => {
    seen = headers
    stream.respond({ ':status': 201, 'x-answer': 'yes' })
    stream.end('made')
  }
  const response = await ask({
    port: agent.proxyPort,
    path: 'http://deb.example:8080/a?b=c',
    headers: { 'proxy-authorization': 'Basic x', connection: 'x-private', 'x-private': '1', 'x-kept': '2' },
  })
  expect([response.statusCode, response.headers['x-answer'], await text(response)]).toEqual([201, 'yes', 'made'])
  expect(seen).toMatchObject({ ':scheme': 'http', ':authority': 'deb.example:8080', ':path': '/a?b=c', 'x-kept': '2' })
  for (const name of ['proxy-authorization', 'connection', 'x-private', 'host']) expect(seen[name]).toBeUndefined()
})

test('what is no proxy request is refused', async () => {
  const response = await ask({ port: agent.proxyPort, path: '/' })
  expect(response.statusCode).toBe(400)
})

test('the model API is reached under its own name, bodies arrive whole', async () => {
  const body = randomBytes(3_000_000)
  answer = (stream, headers) => {
    stream.respond({ ':status': 200 })
    void buffer(stream).then((sent) => stream.end(`${headers[':authority']} ${headers[':path']} ${sent.equals(body)}`))
  }
  const response = await ask({ port: agent.anthropicPort, path: '/v1/messages?beta=true', method: 'POST', body })
  expect(await text(response)).toBe('anthropic.upstream /v1/messages?beta=true true')
})

test('upstreams are asked by what they are called, the path as it was written', async () => {
  answer = (stream, headers) => {
    stream.respond({ ':status': 200 })
    stream.end(`${headers[':authority']} ${headers[':path']}`)
  }
  const response = await ask({ port: agent.upstreamPort, path: '/npm/@acme%2fx/../y?z' })
  expect(await text(response)).toBe('local.upstream /npm/@acme%2fx/../y?z')
})

test('server-sent events arrive when they happen', async () => {
  const streams: ServerHttp2Stream[] = []
  answer = (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'text/event-stream' })
    streams.push(stream)
  }
  // The head arrives before any event.
  const response = await ask({
    port: agent.anthropicPort,
    path: '/v1/messages',
    method: 'POST',
    body: Buffer.from('{}'),
  })
  for (const event of ['one', 'two', 'three']) {
    streams[0]?.write(`data: ${event}\n\n`)
    const [chunk] = (await once(response, 'data')) as [Buffer]
    expect(chunk.toString()).toBe(`data: ${event}\n\n`)
  }
  streams[0]?.end()
  await once(response, 'end')
})

test('an answer that the gateway breaks off does not look complete', async () => {
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    stream.write('half')
    setTimeout(() => stream.destroy(new Error('broken')), 50)
  }
  const response = await ask({ port: agent.anthropicPort, path: '/' })
  await expect(text(response)).rejects.toThrow('aborted')
})

test('a session that ends under an answer does not make it look complete either', async () => {
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    stream.write('half')
    setTimeout(() => connections.at(-1)?.destroy(), 50)
  }
  const response = await ask({ port: agent.anthropicPort, path: '/' })
  await expect(text(response)).rejects.toThrow('aborted')
})

test('a request made while the way out is down waits for it', async () => {
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    stream.end('there')
  }
  await text(await ask({ port: agent.anthropicPort, path: '/' }))
  connections.at(-1)?.destroy()
  await once(connections.at(-1) ?? gateway, 'close')
  const response = await ask({ port: agent.anthropicPort, path: '/' })
  expect(await text(response)).toBe('there')
})

test('large answers with a slow reader are held back, not lost', async () => {
  const content = randomBytes(20_000_000)
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    stream.end(content)
  }
  const response = await ask({ port: agent.proxyPort, path: 'http://deb.example/big' })
  response.pause()
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect((await buffer(response)).equals(content)).toBe(true)
})

test('while the gateway is away model requests, downloads and tunnels wait for it', async () => {
  answer = (stream, headers) => {
    stream.respond({ ':status': 200 })
    if (headers[':method'] !== 'CONNECT') void text(stream).then((body) => stream.end(`${headers[':path']} ${body}`))
  }
  const comeBack = await goAway()
  let answers = 0
  const asked = [
    ask({ port: agent.anthropicPort, ...MODEL_POST, body: Buffer.from('prompt') }),
    ask({ port: agent.proxyPort, path: 'http://deb.example/a' }),
  ].map(async (response) => text(await response).finally(() => (answers += 1)))
  const tunnel = openTunnel('registry.example:443').finally(() => (answers += 1))
  // Attempts to reach the gateway go on meanwhile.
  const before = connections.length
  cut()
  await expect.poll(() => connections.length).toBeGreaterThan(before)
  expect(answers).toBe(0)
  comeBack()
  expect(await Promise.all(asked)).toEqual(['/v1/messages prompt', '/a '])
  expect((await tunnel).status).toBe('HTTP/1.1 200 Connection Established')
})

test('a model request of which the gateway had a part is sent again, whole, when it is back', async () => {
  const bodies: Promise<string>[] = []
  answer = (stream) => {
    const body = text(stream).catch(() => 'cut')
    bodies.push(body)
    if (bodies.length === 1) return void stream.once('data', cut)
    stream.respond({ ':status': 200 })
    void body.then((sent) => stream.end(sent))
  }
  const headers = { 'content-length': '10' }
  const call = request({ host: '127.0.0.1', agent: false, port: agent.anthropicPort, ...MODEL_POST, headers })
  const answered = once(call, 'response')
  call.write('first')
  await expect.poll(() => bodies.length).toBe(2)
  call.end(' rest')
  const [response] = (await answered) as [IncomingMessage]
  expect(await text(response)).toBe('first rest')
  expect(await Promise.all(bodies)).toEqual(['cut', 'first rest'])
})

test('a model request that the gateway had whole may be paid for: it is an error, not sent again', async () => {
  let asked = 0
  answer = (stream) => {
    asked += 1
    stream.resume().once('end', cut)
  }
  const response = await ask({ port: agent.anthropicPort, ...MODEL_POST, body: Buffer.from('prompt') })
  expect([response.statusCode, asked]).toEqual([502, 1])
  expect(await text(response)).toContain('The way out of this machine')
  // The next one is none's business but its own.
  answer = (stream) => {
    stream.respond({ ':status': 200 })
    stream.end('there')
  }
  expect(await text(await ask({ port: agent.anthropicPort, ...MODEL_POST, body: Buffer.from('prompt') }))).toBe('there')
})

test("what only asks is asked again, but not for ever; other servers' half requests are not", async () => {
  let asked = 0
  answer = (stream) => {
    asked += 1
    if (asked < 3) return cut()
    stream.respond({ ':status': 200 })
    stream.end('there')
  }
  const get = { port: agent.proxyPort, path: 'http://deb.example/a' }
  expect(await text(await ask(get))).toBe('there')
  asked = -10
  expect((await ask(get)).statusCode).toBe(502)
  expect(asked).toBe(-5)

  asked = 0
  const headers = { 'content-length': '10' }
  const call = request({ host: '127.0.0.1', agent: false, ...get, method: 'POST', headers }).on(
    'error',
    () => undefined,
  )
  call.write('half')
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  expect([response.statusCode, asked]).toEqual([502, 1])
  call.destroy()
})

test('only so much of a body is kept for a second attempt', async () => {
  let asked = 0
  answer = (stream) => {
    asked += 1
    let bytes = 0
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > 1024 * 1024) cut()
    })
  }
  const headers = { 'content-length': '3000000' }
  const call = request({ host: '127.0.0.1', agent: false, port: agent.anthropicPort, ...MODEL_POST, headers })
  call.on('error', () => undefined).write(randomBytes(2_000_000))
  const [response] = (await once(call, 'response')) as [IncomingMessage]
  expect([response.statusCode, asked]).toEqual([502, 1])
  call.destroy()
})
