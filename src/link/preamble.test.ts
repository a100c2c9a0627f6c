import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startSession } from './preamble.ts'
import { preambleLine, PreambleScanner } from './scanner.ts'

let folder: string
let guest: Socket
let host: Socket

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'viv-'))
  const server = createServer().listen(join(folder, 's'))
  await once(server, 'listening')
  guest = connect(join(folder, 's')).on('error', () => undefined)
  const accepted = await once(server, 'connection')
  host = accepted[0] as Socket
  server.close()
})

afterEach(() => {
  guest.destroy()
  host.destroy()
  rmSync(folder, { recursive: true })
})

/** Answers like an agent; `first` is sent before the echo, `behind` right behind `ready`. */
function answer(first: Buffer, behind: Buffer): void {
  const scanner = new PreambleScanner()
  let begun = false
  guest.on('data', (chunk: Buffer) => {
    scanner.push(chunk)
    for (let line = scanner.next(); line !== undefined; line = scanner.next()) {
      if (line.verb === 'hello') {
        if (!begun) guest.write(first)
        begun = true
        guest.write(preambleLine('echo', line.nonce))
      }
      if (line.verb === 'go') guest.write(Buffer.concat([Buffer.from(preambleLine('ready', line.nonce)), behind]))
    }
  })
}

test('bytes that arrive together with the end of the preamble are not lost', async () => {
  const behind = randomBytes(100_000)
  answer(Buffer.alloc(0), behind)
  await startSession(host, { deadlineMs: 10_000 })
  expect(host.isPaused()).toBe(true)
  const received: Buffer[] = []
  for await (const chunk of host) {
    received.push(chunk as Buffer)
    if (Buffer.concat(received).length >= behind.length) break
  }
  expect(Buffer.concat(received).equals(behind)).toBe(true)
})

test('the rest of an old session is skipped, even when it looks like a preamble', async () => {
  const old = Buffer.concat([
    randomBytes(1_000_000),
    Buffer.from(preambleLine('ready', 'a'.repeat(32))),
    Buffer.from('VIVARIUM/1 echo VIVARIUM/1 echo nothing\n'),
  ])
  answer(old, Buffer.from('after'))
  await startSession(host, { deadlineMs: 10_000 })
  expect(host.read()).toEqual(Buffer.from('after'))
})

test('a guest that only sends garbage is refused after a bounded amount', async () => {
  const flood = () => {
    while (guest.writable && guest.write(randomBytes(64 * 1024)));
  }
  guest.on('drain', flood)
  const session = startSession(host, { deadlineMs: 10_000, maxBytes: 1_000_000 })
  flood()
  await expect(session).rejects.toMatchObject({ code: 'guest_misbehaved' })
  expect(host.destroyed).toBe(true)
})

test('a silent guest, a guest that hangs up and an abort each end the wait', async () => {
  const silent = startSession(host, { deadlineMs: 50 })
  await expect(silent).rejects.toMatchObject({ code: 'guest_lost' })
  await expect(startSession(host, { deadlineMs: 10_000 })).rejects.toMatchObject({ code: 'guest_lost' })
})

test('an abort ends the wait', async () => {
  const abort = new AbortController()
  const session = startSession(host, { deadlineMs: 10_000, signal: abort.signal })
  abort.abort()
  await expect(session).rejects.toMatchObject({ code: 'guest_lost' })
})

test('a line cut into single bytes is still found', () => {
  const scanner = new PreambleScanner()
  const nonce = '0123456789abcdef'.repeat(2)
  const lines = []
  for (const byte of Buffer.from(`noise VIVARIUM/1 ${'\n'.repeat(5)}${preambleLine('hello', nonce)}rest`)) {
    scanner.push(Buffer.from([byte]))
    const line = scanner.next()
    if (line !== undefined) lines.push(line)
  }
  expect(lines).toEqual([{ verb: 'hello', nonce }])
  expect(scanner.rest().toString()).toBe('rest')
})

test('a session begins only when nothing is being written any more, however early the guest says ready', async () => {
  const goWritten = Promise.withResolvers<() => void>()
  const socket = new Duplex({
    read() {},
    write(chunk: Buffer, _encoding, done) {
      const text = chunk.toString()
      const nonce = /hello (\w+)/.exec(text)?.[1]
      if (nonce !== undefined) this.push(`${preambleLine('echo', nonce)}${preambleLine('ready', nonce)}behind`)
      if (text.includes(' go ')) goWritten.resolve(done)
      else done()
    },
  })
  const session = startSession(socket, { deadlineMs: 10_000 })
  const letGoOut = await goWritten.promise
  expect(await Promise.race([session.then(() => 'begun'), sleep(20, 'not yet')])).toBe('not yet')
  letGoOut()
  await session
  expect(socket.writableLength).toBe(0)
  expect(String(socket.read())).toBe('behind')
})
