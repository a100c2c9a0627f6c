import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { dialAsGuest, dialSession, startTestHost, type TestHost } from './testing.ts'

/** Short, so that a deadline that runs although it should not is over long before a test ends. */
const DEADLINES = { firstSessionMs: 2000, sessionMs: 400, readyMs: 300, pingMs: 50, callMs: 2000, bulkMs: 2000 }
const TREE = Buffer.from('{"entries":[],"truncated":false}')
const NO_TREE = { entries: [], truncated: false }

let host: TestHost
const guests: Socket[] = []
let parks: number
/** Everything else that is asked stays unanswered. */
let pending: ServerHttp2Stream[]

/** A guest that takes every park and answers as it is told to. */
async function connectGuest(answer: (stream: ServerHttp2Stream) => void = answerTree): Promise<ServerHttp2Session> {
  const socket = await dialSession(host)
  guests.push(socket)
  const session = performServerHandshake(socket)
  session.on('error', () => undefined)
  session.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    if (headers[':path'] !== '/park') return answer(stream)
    parks += 1
    stream.respond({ ':status': 200 })
    stream.end('{}')
  })
  return session
}

function answerTree(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200 })
  stream.end(TREE)
}

function keepPending(stream: ServerHttp2Stream): void {
  pending.push(stream)
}

function writeForever(socket: Socket): void {
  const chunk = randomBytes(64 * 1024)
  while (socket.writable && socket.write(chunk));
  socket.once('drain', () => writeForever(socket))
}

/** All deadlines of a link that is not parked run out meanwhile. */
async function stillThere(): Promise<boolean> {
  return Promise.race([host.link.lost.then(() => false), sleep(DEADLINES.sessionMs * 2, true)])
}

beforeEach(async () => {
  parks = 0
  pending = []
  host = await startTestHost({ deadlines: DEADLINES })
})

afterEach(async () => {
  for (const guest of guests.splice(0)) guest.destroy()
  await host[Symbol.asyncDispose]()
})

test('while the guest is parked no deadline runs, and calls wait for it to go on', async () => {
  const guest = await connectGuest()
  await host.link.park({ drainMs: 0 })
  const call = host.link.tree('/')
  expect(await Promise.race([call, stillThere()])).toBe(true)
  guest.destroy()
  expect(await Promise.race([call, stillThere()])).toBe(true)
  host.link.wake()
  await connectGuest()
  expect(await call).toEqual(NO_TREE)
})

test('a connection made while the guest is parked carries the session once it is woken', async () => {
  await connectGuest()
  await host.link.park({ drainMs: 0 })
  const early = connectGuest()
  await expect.poll(() => host.controls.length).toBe(2)
  expect(await stillThere()).toBe(true)
  expect(host.controls[1]?.bytesWritten).toBe(0)
  host.link.wake()
  await early
  expect(await host.link.tree('/')).toEqual(NO_TREE)
})

test('a woken link expects its guest within the deadline again', async () => {
  await connectGuest()
  await host.link.park({ drainMs: 0 })
  host.link.wake()
  expect(await host.link.lost).toContain('did not answer')
})

test('a link that begins silent expects nobody until it is woken', async () => {
  await host[Symbol.asyncDispose]()
  host = await startTestHost({ deadlines: { ...DEADLINES, firstSessionMs: DEADLINES.sessionMs }, silent: true })
  const call = host.link.tree('/')
  expect(await Promise.race([call, stillThere()])).toBe(true)
  host.link.wake()
  await connectGuest()
  expect(await call).toEqual(NO_TREE)
})

test('calls that wait for a parked guest end when they are aborted', async () => {
  await connectGuest()
  await host.link.park({ drainMs: 0 })
  const abort = new AbortController()
  const tree = host.link.tree('/', abort.signal)
  const output = host.link.output('x', 0, abort.signal)[Symbol.asyncIterator]().next()
  abort.abort()
  await expect(tree).rejects.toMatchObject({ code: 'cancelled' })
  await expect(output).rejects.toMatchObject({ code: 'cancelled' })
})

test('of the calls under way, what may be repeated goes on after the park, the rest is lost', async () => {
  await connectGuest(keepPending)
  const tree = host.link.tree('/')
  const upload = host.link.putArchive('/', Readable.from([Buffer.alloc(1)]))
  upload.catch(() => undefined)
  await expect.poll(() => pending.length).toBe(2)
  await host.link.park({ drainMs: 0 })
  await expect(upload).rejects.toMatchObject({ code: 'guest_lost' })
  host.link.wake()
  await connectGuest()
  expect(await tree).toEqual(NO_TREE)
})

test('the output of a process that says nothing is read on after any number of parks', async () => {
  const output = host.link.output('x', 0)[Symbol.asyncIterator]().next()
  for (let round = 0; round < 8; round += 1) {
    await connectGuest((stream) => {
      stream.respond({ ':status': 200 })
      keepPending(stream)
    })
    await expect.poll(() => pending.length).toBe(round + 1)
    await host.link.park({ drainMs: 0 })
    host.link.wake()
  }
  const frame = Buffer.from([1, 0, 0, 0, 2, 0x6f, 0x6b])
  await connectGuest((stream) => {
    stream.respond({ ':status': 200 })
    stream.write(frame)
  })
  expect(await output).toMatchObject({ value: { kind: 'stdout', data: Buffer.from('ok'), next: frame.length } })
})

test('parking twice asks once, and a guest that was woken can be parked again', async () => {
  await connectGuest()
  await Promise.all([host.link.park({ drainMs: 0 }), host.link.park({ drainMs: 0 })])
  await host.link.park({ drainMs: 0 })
  expect(parks).toBe(1)
  host.link.wake()
  await connectGuest()
  await host.link.park({ drainMs: 0 })
  expect(parks).toBe(2)
})

test('a guest that refuses to park goes on', async () => {
  const socket = await dialSession(host)
  guests.push(socket)
  performServerHandshake(socket).on('stream', (stream, headers) => {
    if (headers[':path'] !== '/park') return answerTree(stream)
    stream.respond({ ':status': 500 })
    stream.end('{"error":"no"}')
  })
  await expect(host.link.park({ drainMs: 0 })).rejects.toMatchObject({ code: 'guest_misbehaved' })
  expect(await host.link.tree('/')).toEqual(NO_TREE)
})

test('a guest that says it is parked and keeps talking, on every connection, is not listened to', async () => {
  const guest = await connectGuest()
  await host.link.park({ drainMs: 0 })
  const closed = once(guest, 'close')
  const talking = setInterval(() => guest.ping(() => undefined), 1)
  expect(await stillThere()).toBe(true)
  clearInterval(talking)
  for (let round = 0; round < 10; round += 1) {
    const next = await dialAsGuest(host)
    guests.push(next)
    writeForever(next)
  }
  expect(await stillThere()).toBe(true)
  await closed
  const newest = host.controls.at(-1)
  expect(newest?.bytesRead).toBeLessThan(1024 * 1024)
  host.link.wake()
  await connectGuest()
  expect(await host.link.tree('/')).toEqual(NO_TREE)
})

test('a parked link that is closed lets go of every connection', async () => {
  const guest = await connectGuest()
  await host.link.park({ drainMs: 0 })
  const closed = once(guest, 'close')
  await host.link[Symbol.asyncDispose]()
  await closed
  await expect(host.link.tree('/')).rejects.toMatchObject({ code: 'guest_lost' })
})
