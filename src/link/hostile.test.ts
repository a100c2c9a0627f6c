import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type IncomingHttpHeaders, performServerHandshake, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { afterEach, expect, test } from 'vitest'
import { FrameParser } from './frames.ts'
import { preambleLine } from './scanner.ts'
import { dialAsGuest, dialSession, startTestHost, type TestHost } from './testing.ts'
import type { ExecOutput } from './types.ts'

/** Short, so that what ends by a deadline ends soon; nothing here is about speed. */
const DEADLINES = {
  firstSessionMs: 3000,
  sessionMs: 1500,
  readyMs: 700,
  pingMs: 100,
  callMs: 700,
  bulkMs: 700,
  idleMs: 400,
}

let host: TestHost
const guests: Socket[] = []

afterEach(async () => {
  for (const guest of guests.splice(0)) guest.destroy()
  await host[Symbol.asyncDispose]()
})

async function connectGuest(): Promise<Socket> {
  const socket = await dialSession(host)
  guests.push(socket)
  return socket
}

/** A guest that speaks HTTP/2 and answers every request with `answer`. */
async function serveAs(answer: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void): Promise<Socket> {
  host = await startTestHost({ deadlines: DEADLINES })
  const socket = await connectGuest()
  const session = performServerHandshake(socket)
  session.on('error', () => undefined)
  session.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    answer(stream, headers)
  })
  return socket
}

function frame(kind: number, payload: Buffer, length = payload.length): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt8(kind)
  header.writeUInt32BE(length, 1)
  return Buffer.concat([header, payload])
}

const EXIT = frame(3, Buffer.from('{"code":0,"signal":null,"outOfMemory":false}'))
const SPEC = { argv: ['true'], env: {}, cwd: '/', user: 'agent' as const }

function answerWith(...chunks: Buffer[]) {
  return (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200 })
    for (const chunk of chunks) stream.write(chunk)
    stream.end()
  }
}

async function drainOutput(): Promise<number> {
  let count = 0
  for await (const piece of host.link.output('x', 0)) if (piece.kind !== 'exit') count += piece.data.length
  return count
}

function writeForever(
  stream: { write(chunk: Buffer): boolean; once(event: 'drain', listener: () => void): unknown },
  chunk: Buffer,
) {
  while (stream.write(chunk));
  stream.once('drain', () => writeForever(stream, chunk))
}

test('a machine whose guest never connects is given up, and every call says so', async () => {
  host = await startTestHost({ deadlines: { ...DEADLINES, firstSessionMs: 100 } })
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_lost' })
  expect(await host.link.lost).toContain('did not answer')
  await expect(drainOutput()).rejects.toMatchObject({ code: 'guest_lost' })
})

test('a preamble that never ends does not keep a machine', async () => {
  host = await startTestHost({ deadlines: { ...DEADLINES, firstSessionMs: 500 } })
  const guest = await dialAsGuest(host)
  guests.push(guest)
  writeForever(guest, Buffer.from(preambleLine('echo', 'f'.repeat(32)).repeat(1000)))
  expect(await host.link.lost).toContain('did not answer')
})

test('a guest that answers the preamble with garbage again and again is given up as misbehaving', async () => {
  host = await startTestHost({ deadlines: DEADLINES })
  const call = host.link.tree('/')
  call.catch(() => undefined)
  for (let round = 0; round < 5; round += 1) {
    const guest = await connectGuest()
    guest.resume()
    guest.write(randomBytes(100_000))
    await once(guest, 'close')
  }
  expect(await host.link.lost).toContain('keeps breaking')
  await expect(call).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('a guest that goes silent costs its session, and calls go on with the next', async () => {
  host = await startTestHost({ deadlines: DEADLINES })
  const silent = await connectGuest()
  // An empty settings frame (RFC 9113, 6.5), and then nothing any more.
  silent.resume().write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]))
  const call = host.link.tree('/')
  await once(silent, 'close')
  const honest = performServerHandshake(await connectGuest())
  honest.on('stream', answerWith(Buffer.from('{"entries":[],"truncated":false}')))
  expect(await call).toEqual({ entries: [], truncated: false })
})

test('a call under which a guest ends its session each time is given up', async () => {
  host = await startTestHost({ deadlines: DEADLINES })
  let sessions = 0
  const serve = async () => {
    const session = performServerHandshake(await connectGuest())
    sessions += 1
    session.on('error', () => undefined)
    // Until the host is gone.
    session.once('close', () => serve().catch(() => undefined))
    session.once('stream', () => session.destroy())
  }
  await serve()
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_lost' })
  expect(sessions).toBeLessThan(20)
})

test('a guest that vanishes in the middle of an answer is lost once its deadline is over', async () => {
  await serveAs((stream) => {
    stream.respond({ ':status': 200, 'content-length': 1000 })
    stream.write(Buffer.alloc(10))
    setTimeout(() => stream.session?.destroy(), 50)
  })
  const { body } = await host.link.readFile('/f', { maxBytes: 1000 })
  await expect(buffer(body)).rejects.toMatchObject({ code: 'guest_lost' })
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_lost' })
})

test.each([
  ['no JSON', Buffer.from('{"entries":')],
  ['another shape', Buffer.from('{"entries":[{"path":1}],"truncated":false}')],
  ['bytes that are no text', randomBytes(100)],
])('an answer with %s is misbehaviour', async (_name, bytes) => {
  await serveAs(answerWith(bytes))
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('an endless JSON answer is cut off', async () => {
  await serveAs((stream) => {
    stream.respond({ ':status': 200 })
    writeForever(stream, Buffer.alloc(64 * 1024, 0x20))
  })
  await expect(host.link.start('x', { ...SPEC, stdin: 'none' })).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('an endless line of changes, and changes without an end, are misbehaviour', async () => {
  let endless = true
  await serveAs((stream) => {
    stream.respond({ ':status': 200 })
    if (endless) writeForever(stream, Buffer.alloc(64 * 1024, 0x20))
    else stream.end('{"path":"a","kind":"created","type":"file","size":1}\n')
  })
  await expect(host.link.changes({ maxEntries: 10 })).rejects.toMatchObject({ code: 'guest_misbehaved' })
  endless = false
  await expect(host.link.changes({ maxEntries: 10 })).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('paths of changes that lead out of the folder are left out', async () => {
  const line = (path: string) => `${JSON.stringify({ path, kind: 'created', type: 'file', size: 1 })}\n`
  const lines = [line('/etc/passwd'), line('../x'), line('a/../../x'), line('good'), '{"end":true,"skipped":1}\n']
  await serveAs(answerWith(Buffer.from(lines.join(''))))
  const { changes, skipped } = await host.link.changes({ maxEntries: 10 })
  expect(changes.map(({ path }) => path)).toEqual(['good'])
  expect(skipped).toBe(4)
})

test('frames in pieces of any size are read as they were sent', async () => {
  const parts = [frame(1, Buffer.from('out')), frame(2, Buffer.alloc(0)), frame(1, Buffer.alloc(60_000, 'x')), EXIT]
  const bytes = Buffer.concat(parts)
  for (const size of [1, 4, 5, 6, 1000, bytes.length]) {
    const parser = new FrameParser(7)
    const pieces: ExecOutput[] = []
    for (let at = 0; at < bytes.length; at += size) pieces.push(...parser.push(bytes.subarray(at, at + size)))
    expect(pieces.map((piece) => (piece.kind === 'exit' ? 'exit' : piece.data.length))).toEqual([3, 0, 60_000, 'exit'])
    expect(pieces.at(-1)?.next).toBe(7 + bytes.length)
  }
})

test.each([
  ['a frame that is too large', [frame(1, Buffer.alloc(10), 0xffffffff)]],
  ['a frame of no known kind', [frame(9, Buffer.alloc(10))]],
  ['an exit that is no JSON', [frame(3, Buffer.from('bye'))]],
  ['an exit that is too large', [frame(3, Buffer.alloc(60_000, 0x20))]],
  ['frames behind the exit', [Buffer.concat([EXIT, frame(1, Buffer.from('more'))])]],
  ['no exit, ever again', [frame(1, Buffer.alloc(0))]],
])('output with %s is misbehaviour', async (_name, chunks) => {
  await serveAs((stream, headers) => {
    if (headers[':path']?.includes('from=0') === true) answerWith(...chunks)(stream)
    else answerWith()(stream)
  })
  await expect(drainOutput()).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('a flood of output waits for its reader', async () => {
  let written = 0
  const chunk = frame(1, Buffer.alloc(60_000))
  await serveAs((stream, headers) => {
    if (headers[':method'] !== 'GET') return answerWith(Buffer.from('{}'))(stream)
    stream.respond({ ':status': 200 })
    writeForever(
      { write: (bytes) => ((written += bytes.length), stream.write(bytes)), once: stream.once.bind(stream) },
      chunk,
    )
  })
  for await (const piece of host.link.output('x', 0)) {
    expect(piece.kind).toBe('stdout')
    // Until nothing more is taken: then the windows are full.
    for (let before = -1; before !== written;) {
      before = written
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    break
  }
  expect(written).toBeLessThan(4_000_000)
})

test('a request that is never answered ends', async () => {
  await serveAs(() => undefined)
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_misbehaved' })
  await expect(host.link.exec(SPEC, { timeoutMs: 100 })).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('a command that the guest does not end when told to is given up', async () => {
  await serveAs((stream, headers) => {
    if (headers[':method'] === 'POST') return answerWith(Buffer.from('{}'))(stream)
    stream.respond({ ':status': 200 })
    stream.write(frame(1, Buffer.from('still here')))
  })
  await expect(host.link.exec(SPEC, { timeoutMs: 100 })).rejects.toMatchObject({
    code: 'guest_misbehaved',
    message: expect.stringContaining('did not end') as string,
  })
})

test('a body that stops, lies about its length or is too large ends in an error', async () => {
  let behaviour: (stream: ServerHttp2Stream) => void = () => undefined
  await serveAs((stream) => behaviour(stream))
  const read = async () => {
    const { body } = await host.link.readFile('/f', { maxBytes: 100 })
    return buffer(body)
  }
  behaviour = (stream) => {
    stream.respond({ ':status': 200, 'content-length': 50 })
    stream.write('x')
  }
  await expect(read()).rejects.toMatchObject({ code: 'guest_misbehaved' })
  behaviour = (stream) => {
    stream.respond({ ':status': 200, 'content-length': 50 })
    stream.write('x')
    stream.close(8)
  }
  await expect(read()).rejects.toMatchObject({ code: 'guest_misbehaved' })
  behaviour = (stream) => {
    stream.respond({ ':status': 200, 'content-length': 5000 })
    stream.end()
  }
  await expect(read()).rejects.toMatchObject({ code: 'too_large' })
  behaviour = answerWith(Buffer.from('no length'))
  await expect(read()).rejects.toMatchObject({ code: 'guest_misbehaved' })
})

test('huge headers break the session, not the host', async () => {
  await serveAs((stream) => {
    const headers = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`x-${index}`, 'x'.repeat(1000)]))
    try {
      stream.respond({ ':status': 200, ...headers })
      stream.end('{"entries":[],"truncated":false}')
    } catch {
      // Refused on the guest's own side.
    }
  })
  await expect(host.link.tree('/')).rejects.toMatchObject({
    code: expect.stringMatching(/guest_(lost|misbehaved)/) as string,
  })
})

test('refusals of a guest are quoted without control characters and not at length', async () => {
  await serveAs((stream) => {
    stream.respond({ ':status': 422 })
    stream.end(JSON.stringify({ error: `\u001b[31mred\n${'x'.repeat(3000)}` }))
  })
  const error: unknown = await host.link.tree('/').catch((error: unknown) => error)
  expect(error).toMatchObject({ code: 'invalid_request' })
  const { message } = error as Error
  expect(message).toContain('[31mred x')
  expect(message.length).toBeLessThan(400)
  expect(message).not.toMatch(/\p{Cc}/u)
})

test('an aborted call ends at once and leaves the session usable', async () => {
  let answering = false
  await serveAs((stream) => {
    if (answering) answerWith(Buffer.from('{"entries":[],"truncated":false}'))(stream)
  })
  const abort = new AbortController()
  const call = host.link.tree('/', abort.signal)
  const output = host.link.output('x', 0, abort.signal)[Symbol.asyncIterator]().next()
  setTimeout(() => abort.abort(), 50)
  await expect(call).rejects.toMatchObject({ code: 'cancelled' })
  await expect(output).rejects.toMatchObject({ code: 'cancelled' })
  answering = true
  expect(await host.link.tree('/')).toEqual({ entries: [], truncated: false })
})

test('closing the link ends what is under way', async () => {
  await serveAs(() => undefined)
  const call = host.link.tree('/')
  const output = drainOutput()
  call.catch(() => undefined)
  output.catch(() => undefined)
  await new Promise((resolve) => setTimeout(resolve, 50))
  await host.link[Symbol.asyncDispose]()
  await expect(call).rejects.toMatchObject({ code: 'guest_lost' })
  await expect(output).rejects.toMatchObject({ code: 'guest_lost' })
  expect(await host.link.lost).toBe('The link was closed.')
})

test('another version of the protocol is refused', async () => {
  await serveAs(answerWith(Buffer.from('{"protocol":2,"agentVersion":"9","bootId":"b","uptimeMs":1}')))
  const hello = host.link.hello({ hostname: 'h' }, new AbortController().signal)
  await expect(hello).rejects.toMatchObject({ code: 'guest_misbehaved' })
})
