import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { CALLS } from '../calls.ts'
import { expectMisbehaviour } from '../expect.ts'
import { LinkHost } from '../link-host.ts'
import { cut, mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { makeTar } from '../tar.ts'
import type { Harness, Target } from '../target.ts'

/** What an agent that means well answers. */
const ANSWERS = [
  '{}',
  '{"protocol":1,"agentVersion":"1","bootId":"b","uptimeMs":1}',
  '{"pid":1}',
  '{"at":5}',
  '{"entries":[{"path":"a","type":"file","size":1,"mode":420}],"truncated":false}',
  '{"path":"a","kind":"created","type":"file","size":1}\n{"path":"b/c","kind":"deleted","type":"symlink","size":0}\n{"end":true,"skipped":0}\n',
  '{"error":"no such file"}',
  'diff --git a/a b/a\n',
  '\u0001\0\0\0\u0002hi\u0003\0\0\0\u002c{"code":0,"signal":null,"outOfMemory":false}',
].map((text) => Buffer.from(text))

interface Case {
  call: string
  status: number
  headers: Record<string, string>
  /** Base64. */
  body: string
  cutSeed: number
  /** How the answer is left; `never` does not even begin. */
  end: 'end' | 'reset' | 'open' | 'connection' | 'never'
}

function makeCase(random: Random): Case {
  const sample = random.chance(0.1) ? makeTar(random, ['a']) : random.pick(ANSWERS)
  const body = random.chance(0.3) ? sample : mutate(sample, random, ANSWERS)
  const length = random.pick([undefined, undefined, body.length, body.length, 0, random.size(1e6)])
  return {
    call: random.pick(Object.keys(CALLS)),
    status: random.chance(0.8) ? 200 : random.pick([204, 206, 304, 400, 404, 410, 413, 422, 499, 500, 599]),
    headers: {
      ...(length === undefined ? {} : { 'content-length': String(length) }),
      ...(random.chance(0.1) ? { [`x-${random.below(10)}`]: 'x'.repeat(random.size(20_000)) } : {}),
    },
    body: body.toString('base64'),
    cutSeed: random.below(2 ** 31),
    // What waits for a deadline is rare, since it takes one.
    end: random.chance(0.95) ? 'end' : random.pick(['reset', 'reset', 'reset', 'connection', 'open', 'never']),
  }
}

async function answer(stream: ServerHttp2Stream, { status, headers, body, cutSeed, end }: Case): Promise<void> {
  if (end === 'never') return
  stream.respond({ ':status': status, ...headers })
  for (const chunk of cut(Buffer.from(body, 'base64'), new Random(cutSeed))) {
    if (stream.destroyed || stream.writableEnded) return
    if (!stream.write(chunk)) await Promise.race([once(stream, 'drain'), once(stream, 'close')])
  }
  if (end === 'end') stream.end()
  if (end === 'reset') stream.close(8)
  if (end === 'connection') stream.session?.destroy()
}

/** Answers of a guest's agent over HTTP/2: every call ends in time, well or with the guest to blame, and the next one is none the worse. */
export const answers: Target = {
  name: 'answers',
  generate: (random) => Buffer.from(JSON.stringify(makeCase(random))),
  async open(): Promise<Harness> {
    const host = await LinkHost.open()
    let current: Case | undefined
    void host.stayConnected((stream) => {
      // Refused on the guest's own side, where it breaks HTTP/2.
      if (current !== undefined) answer(stream, current).catch(() => stream.destroy())
    })
    return {
      async run(input) {
        const played = JSON.parse(input.toString()) as Case
        current = played
        const patience = new AbortController()
        const timer = setTimeout(() => patience.abort(new Error('a call without an end')), 5000)
        try {
          await CALLS[played.call]?.(host.link, patience.signal)
        } catch (error) {
          if (patience.signal.aborted) throw error
          expectMisbehaviour(error)
        } finally {
          clearTimeout(timer)
          current = undefined
        }
      },
      [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
    }
  },
}
