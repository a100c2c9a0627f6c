import { connect as connectHttp2, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2'
import assert from 'node:assert/strict'
import { answerOn, connectGuest, connectRaw, MODEL_REQUEST } from '../../src/gateway/test-guest.ts'
import { openTestGateway, startUpstream } from '../../src/gateway/test-gateway.ts'
import { mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { tampered, tamperer } from '../tamper.ts'
import type { Harness, Target } from '../target.ts'

interface Case {
  requests: { headers: OutgoingHttpHeaders; body: string | undefined }[]
  /** Bytes that pass by unchanged before each change. */
  gaps: number[]
  seed: number
}

const BODIES = [
  '{"model":"claude-opus-5-5","max_tokens":10,"messages":[{"role":"user","content":"hi"}]}',
  '{"model":"m","stream":true,"max_tokens":1e999}',
  '{"max_tokens":{"a":[1,2]},"model":["x"]}',
].map((text) => Buffer.from(text))

const AUTHORITIES = [
  'anthropic.upstream',
  'local.upstream',
  'example.com:443',
  '127.0.0.1:1',
  '[::1]:80',
  'a'.repeat(300),
  '',
  'x:99999',
] as const
const PATHS = [
  '/v1/messages',
  '/v1/messages/count_tokens',
  '/',
  '*',
  '/../../x',
  '//evil/',
  '/github/%2e%2e/',
  `/${'x'.repeat(5000)}`,
] as const

function makeRequest(random: Random): Case['requests'][number] {
  const body = random.chance(0.5) ? mutate(random.pick(BODIES), random).toString('base64') : undefined
  if (random.chance(0.3)) return { headers: { ':method': 'CONNECT', ':authority': random.pick(AUTHORITIES) }, body }
  const headers: OutgoingHttpHeaders = {
    ...MODEL_REQUEST,
    ':method': random.pick(['GET', 'POST', 'PUT', 'TRACE', 'OPTIONS', 'BREW']),
    ':path': random.pick(PATHS),
    ':authority': random.pick(AUTHORITIES),
  }
  if (random.chance(0.3))
    headers[random.pick(['content-length', 'transfer-encoding', 'host', 'te', 'expect', 'x-a'])] = random.pick([
      '0',
      '5',
      '-1',
      'chunked',
      'trailers',
    ])
  return { headers, body }
}

/** What a guest sends to the gateway, HTTP/2 and all: the gateway lives on, and answers those who mean well. */
export const egress: Target = {
  name: 'egress',
  generate(random) {
    const requests = random.list(random.between(1, 4), () => makeRequest(random))
    const gaps = random.chance(0.4) ? [] : random.list(random.between(1, 4), () => random.size(3000))
    return Buffer.from(JSON.stringify({ requests, gaps, seed: random.below(2 ** 31) } satisfies Case))
  },
  async open(): Promise<Harness> {
    const stack = new AsyncDisposableStack()
    const model = stack.use(
      await startUpstream((request, response) => {
        request.resume().on('error', () => undefined)
        response.end('{"type":"message","usage":{"input_tokens":1,"output_tokens":1}}')
      }),
    )
    const gateway = stack.use(await openTestGateway(model.url))
    const machine = gateway.machine()
    let count = 0
    return {
      async run(input) {
        const { requests, gaps, seed } = JSON.parse(input.toString()) as Case
        const socket = await connectRaw(machine.session)
        const near = tampered(socket, tamperer(gaps, new Random(seed)))
        const http2 = connectHttp2('http://egress', { createConnection: () => near })
        http2.on('error', () => undefined)
        const ended = Promise.all(requests.map((request) => ask(http2, request)))
        await Promise.race([ended, new Promise((resolve) => http2.once('close', resolve)), quiet()])
        http2.destroy()
        socket.destroy()
        for (const list of [machine.usages, machine.errors, machine.holds, machine.notices]) list.length = 0
        count += 1
        if (count % 50 === 0) await expectService()
      },
      [Symbol.asyncDispose]: () => stack.disposeAsync(),
    }

    async function expectService(): Promise<void> {
      using guest = await connectGuest(machine.session)
      const { status } = await guest.askModel({ model: 'claude-opus-5-5', max_tokens: 1, messages: [] })
      assert.equal(status, 200)
    }
  },
}

/** As long as a case waits for requests that nobody answers, since they were changed to something that waits. */
function quiet(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 100))
}

async function ask(http2: ClientHttp2Session, { headers, body }: Case['requests'][number]): Promise<void> {
  try {
    const stream = http2.request(headers, { endStream: body === undefined && headers[':method'] !== 'CONNECT' })
    stream.on('error', () => undefined)
    if (body !== undefined) stream.end(Buffer.from(body, 'base64'))
    await answerOn(stream)
  } catch {
    // Refused on this side, or broken: either is what a guest has of it.
  }
}
