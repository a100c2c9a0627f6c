import type { ServerHttp2Stream } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import { CALLS } from '../calls.ts'
import { expectMisbehaviour } from '../expect.ts'
import { LinkHost } from '../link-host.ts'
import { Random } from '../random.ts'
import { tamperer } from '../tamper.ts'
import type { Harness, Target } from '../target.ts'

interface Case {
  calls: string[]
  /** Bytes of the guest that pass by unchanged before each change. */
  gaps: number[]
  /** What the changes are made of. */
  seed: number
}

/** Answers as long as those of a working guest, so that there are frames of every kind to change. */
function answer(stream: ServerHttp2Stream): void {
  stream.respond({ ':status': 200, 'content-type': 'application/json' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-trailer': 'x' }))
  stream.write(Buffer.alloc(3000, '{"path":"a","kind":"created","type":"file","size":1}\n'))
  stream.end('{"end":true,"skipped":0}\n')
}

/** The bytes of a session, HTTP/2 and all, changed on their way: the host lives on, and its calls end with the guest to blame. */
export const session: Target = {
  name: 'session',
  generate(random) {
    const names = Object.keys(CALLS).filter((name) => name !== 'kill')
    const calls = random.list(random.between(1, 4), () => random.pick(names))
    const gaps = random.list(random.between(1, 4), () => random.size(4000))
    return Buffer.from(JSON.stringify({ calls, gaps, seed: random.below(2 ** 31) } satisfies Case))
  },
  async open(): Promise<Harness> {
    const host = await LinkHost.open()
    return {
      async run(input) {
        const played = JSON.parse(input.toString()) as Case
        const guest = await host.connect(answer, tamperer(played.gaps, new Random(played.seed)))
        const patience = new AbortController()
        const over = new AbortController()
        const timer = setTimeout(() => patience.abort(new Error('a call without an end')), 8000)
        // A call that waits for another session has had its turn.
        const ended = guest.ended.then(() => sleep(20))
        const calls = played.calls.map(async (name) => {
          try {
            await CALLS[name]?.(host.link, over.signal)
          } catch (error) {
            if (!over.signal.aborted) expectMisbehaviour(error)
          }
        })
        patience.signal.addEventListener('abort', () => guest.end())
        await Promise.race([Promise.all(calls), ended])
        over.abort()
        guest.end()
        await Promise.all(calls)
        clearTimeout(timer)
        if (patience.signal.aborted) throw patience.signal.reason
      },
      [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
    }
  },
}
