import { performServerHandshake, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { afterEach, expect, test } from 'vitest'
import { shell } from '../agents/shell.ts'
import type { Agent } from '../agents/types.ts'
import { dialSession, startTestHost, type TestHost } from '../link/testing.ts'
import type { ExecOutput, GuestLink } from '../link/types.ts'
import { FakeGuest } from './testing/fake-guest.ts'
import type { request } from './testing/fake-house.ts'
import { useHouse } from './testing/house-test.ts'

/** Short, so that what ends by a deadline ends soon. */
const DEADLINES = { firstSessionMs: 3000, sessionMs: 1000, readyMs: 500, callMs: 400, bulkMs: 400, idleMs: 300 }

/** Reads without a word. */
const deaf: Agent = { ...shell, parser: (start) => Object.assign(shell.parser(start), { push: async () => [] }) }
const house = useHouse({ shell, 'claude-code': deaf })
const hosts: TestHost[] = []

afterEach(async () => {
  for (const host of hosts.splice(0)) await host[Symbol.asyncDispose]()
})

/** A machine's guest at the other end of a real link. */
class LinkedGuest extends FakeGuest {
  readonly #host: TestHost

  constructor(host: TestHost) {
    super()
    this.#host = host
    void host.link.lost.then((why) => this.lose(why))
  }

  override link(): GuestLink {
    return this.#host.link
  }
}

type Answer = (stream: ServerHttp2Stream, path: string, connection: Duplex) => void

/** The next machine's guest is an agent that answers with `answer`; those after it mean well. */
async function nextGuest(answer: Answer): Promise<void> {
  const host = await startTestHost({ deadlines: DEADLINES })
  hosts.push(host)
  const connection = await dialSession(host)
  const session = performServerHandshake(connection)
  session.on('error', () => undefined)
  session.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    answer(stream, headers[':path'] ?? '', connection)
  })
  const guests = [new LinkedGuest(host)]
  house.house.machines.guest = () => guests.shift() ?? new FakeGuest()
}

function say(stream: ServerHttp2Stream, body: string | Buffer): void {
  stream.respond({ ':status': 200 })
  stream.end(body)
}

function frame(kind: number, payload: Buffer | string): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt8(kind)
  header.writeUInt32BE(Buffer.byteLength(payload), 1)
  return Buffer.concat([header, Buffer.from(payload)])
}

const EXIT = frame(3, '{"code":0,"signal":null,"outOfMemory":false}')

/** An agent that does well what nothing else is said of. */
function wellBehaved(instead: (stream: ServerHttp2Stream, path: string) => boolean): Answer {
  return (stream, path) => {
    if (instead(stream, path)) return
    if (path.includes('/output')) return say(stream, Buffer.concat([frame(1, 'hello\n'), EXIT]))
    if (path.startsWith('/execs/')) return say(stream, '{"pid":1}')
    if (path === '/changes') return say(stream, '{"end":true,"skipped":0}\n')
    if (path.startsWith('/tree')) return say(stream, '{"entries":[],"truncated":false}')
    if (path === '/patch') {
      stream.respond({ ':status': 404 })
      stream.end('{"error":"the baseline holds no contents"}')
      return
    }
    say(stream, '{}')
  }
}

/** Runs a task on the bad guest, and one beside it, which must go well. */
async function runBeside(fields: Parameters<typeof request>[0] = {}) {
  const [bad, good] = await Promise.all([house.run(fields), house.run()])
  expect(good).toMatchObject({ status: 'succeeded', result: 'hello\n' })
  return bad
}

test('a guest that answers hello and never again fails its task in words, and no other', async () => {
  await nextGuest((stream, path) => (path === '/hello' ? say(stream, '{}') : undefined))
  expect(await runBeside()).toMatchObject({
    status: 'failed',
    error: { code: 'guest_misbehaved', message: 'The guest did not answer a request in time.' },
  })
})

test('a guest whose process neither prints nor ends is ended by the time limit', async () => {
  await nextGuest(
    wellBehaved((stream, path) => {
      if (path.includes('/output')) stream.respond({ ':status': 200 })
      return path.includes('/output')
    }),
  )
  const task = await runBeside({ timeoutSeconds: 1 })
  expect(task).toMatchObject({ status: 'timed_out', error: { message: expect.stringContaining('time limit') } })
})

test('a guest that sends malformed frames fails its task in words', async () => {
  await nextGuest(
    wellBehaved((stream, path) => {
      if (path.includes('/output')) say(stream, Buffer.concat([frame(1, 'before\n'), frame(9, 'what?')]))
      return path.includes('/output')
    }),
  )
  const task = await runBeside()
  expect(task).toMatchObject({
    status: 'failed',
    error: { code: 'guest_misbehaved', message: 'The guest sent an output frame of no known kind.' },
  })
  expect(house.house.events.log.get(task.id)).toContainEqual(expect.objectContaining({ type: 'raw', text: 'before\n' }))
})

test('a guest that breaks HTTP/2 before its agent is started is given up, and its task started again in another', async () => {
  await nextGuest((_stream, _path, connection) => connection.write('this is no HTTP/2 frame'))
  const task = await runBeside()
  expect(task).toMatchObject({ status: 'succeeded', attempts: 2 })
  expect(house.logged(task.id)).toContainEqual(
    expect.stringMatching(/attempt 1 of at most 3 failed: .* did not answer/),
  )
})

test('a guest that says nothing more once its process has ended costs its files only, and says so', async () => {
  await nextGuest(wellBehaved((_stream, path) => /^\/(changes|patch|tree|archive)/.test(path)))
  const task = await runBeside()
  expect(task).toMatchObject({ status: 'succeeded', result: 'hello\n', files: [] })
  expect(house.logged(task.id)).toContainEqual(
    expect.stringMatching(/^The files could not be brought back whole: The guest/),
  )
})

/** Prints the same piece over and over. */
class FloodingGuest extends FakeGuest {
  override play = () => {}

  override link(): GuestLink {
    const link = super.link()
    const piece = Buffer.alloc(64 * 1024 * 1024)
    async function* flood(rest: AsyncIterable<ExecOutput>): AsyncGenerator<ExecOutput> {
      for (let next = 1; next <= 40; next += 1) yield { kind: 'stdout', data: piece, next }
      yield* rest
    }
    return {
      ...link,
      keptOutput(id, from, signal) {
        const { pieces, acks } = link.keptOutput(id, from, signal)
        return { pieces: flood(pieces), acks }
      },
    }
  }
}

test('a process that prints more than anybody can want is ended, and its task says so', async () => {
  house.house.machines.guest = () => new FloodingGuest()
  expect(await house.run({ agent: 'claude-code' })).toMatchObject({
    status: 'failed',
    error: { code: 'guest_misbehaved', message: expect.stringContaining('printed more than 2 GiB') },
  })
})
