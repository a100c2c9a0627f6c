/**
 * What the gateway costs on the host alone, without a machine: a client that speaks the guest's end of the egress protocol on a unix
 * socket, beside the same client on a direct connection. Gateway and origin run in threads of their own.
 */
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent, request, type IncomingMessage } from 'node:http'
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { Worker } from 'node:worker_threads'
import { answerPreamble, MODEL_REQUEST } from '../src/gateway/test-guest.ts'
import { WINDOW_BYTES } from '../src/link/protocol.ts'
import { printRows, row, type BenchRow } from './report.ts'

const BYTES = 512 * 1024 * 1024
const TRANSFERS = 5
const REQUESTS = 400
/** Not counted: connections open, code gets compiled. */
const WARM_UP = 50
/** About what Claude Code sends with its first prompt. */
const PROMPT = JSON.stringify({
  model: 'claude-opus-5-5',
  messages: [{ role: 'user', content: 'All work and no play. '.repeat(2200) }],
  max_tokens: 32_000,
  stream: true,
})

/** Throughput of a tunnel, and time of a model request, each through the gateway and without it, in turn. */
export async function run(): Promise<BenchRow[]> {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bench-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const { bulkPort, modelPort } = await startThread<Ports>(stack, './gateway-origin.ts', {})
  await startThread(stack, './gateway-host.ts', { dir, bulkPort, modelPort })
  const guest = await connectGuest(join(dir, 'egress'))
  stack.defer(() => guest.destroy())
  const agent = new Agent({ keepAlive: true })
  stack.defer(() => agent.destroy())

  const throughput = await inTurn(TRANSFERS, 1, {
    gateway: () => rate(() => tunnel(guest, bulkPort)),
    direct: () => rate(() => plainSocket(bulkPort)),
  })
  const latency = await inTurn(REQUESTS, WARM_UP, {
    gateway: () => timed(() => askThroughGateway(guest)),
    direct: () => timed(() => askDirectly(agent, modelPort)),
  })
  const floorIs = 'the same without a gateway'
  return [
    row({ name: 'gateway: CONNECT', unit: 'MB/s', measured: throughput.gateway, floor: throughput.direct, floorIs }),
    row({ name: 'gateway: model request', unit: 'ms', measured: latency.gateway, floor: latency.direct, floorIs }),
  ]
}

interface Ports {
  bulkPort: number
  modelPort: number
}

/** Starts a thread; resolves with the first thing it says. */
async function startThread<Said>(stack: AsyncDisposableStack, file: string, workerData: object): Promise<Said> {
  const worker = new Worker(new URL(file, import.meta.url), { workerData })
  stack.defer(async () => void (await worker.terminate()))
  const [said] = (await once(worker, 'message')) as [Said]
  return said
}

/** As the agent in the guest connects. */
async function connectGuest(socketPath: string): Promise<ClientHttp2Session> {
  const socket = connect(socketPath)
  await once(socket, 'connect')
  await answerPreamble(socket)
  const session = connectHttp2('http://egress', {
    createConnection: () => socket,
    settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
  })
  await once(session, 'connect')
  session.setLocalWindowSize(WINDOW_BYTES * 4)
  return session
}

type Sides<Value> = Record<'gateway' | 'direct', Value>

async function inTurn(count: number, warmUp: number, measure: Sides<() => Promise<number>>): Promise<Sides<number[]>> {
  const values: Sides<number[]> = { gateway: [], direct: [] }
  for (let i = 0; i < warmUp + count; i++) {
    for (const side of ['gateway', 'direct'] as const) {
      const value = await measure[side]()
      if (i >= warmUp) values[side].push(value)
    }
  }
  return values
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await action()
  return performance.now() - began
}

/** MB a second of a transfer of BYTES. */
async function rate(transfer: () => Promise<number>): Promise<number> {
  const began = performance.now()
  const bytes = await transfer()
  if (bytes < BYTES) throw new Error(`${bytes} of ${BYTES} bytes arrived.`)
  return bytes / 1000 / (performance.now() - began)
}

async function tunnel(guest: ClientHttp2Session, port: number): Promise<number> {
  const stream = guest.request({ ':method': 'CONNECT', ':authority': `127.0.0.1:${port}` })
  stream.write(`${BYTES}\n`)
  const bytes = await sizeOf(stream)
  stream.end()
  return bytes
}

async function plainSocket(port: number): Promise<number> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  socket.write(`${BYTES}\n`)
  return sizeOf(socket)
}

async function sizeOf(stream: Readable): Promise<number> {
  let bytes = 0
  stream.on('data', (chunk: Buffer) => (bytes += chunk.length))
  await once(stream, 'end')
  return bytes
}

async function askThroughGateway(guest: ClientHttp2Session): Promise<void> {
  const stream = guest.request({ ...MODEL_REQUEST, 'content-length': PROMPT.length })
  stream.end(PROMPT)
  const [headers] = (await once(stream, 'response')) as [{ ':status': number }]
  if (headers[':status'] !== 200) throw new Error(`The gateway answered ${headers[':status']}.`)
  await sizeOf(stream)
}

async function askDirectly(agent: Agent, port: number): Promise<void> {
  const headers = { 'content-type': 'application/json', 'content-length': PROMPT.length }
  const outgoing = request({ agent, host: '127.0.0.1', port, method: 'POST', path: '/v1/messages', headers })
  outgoing.end(PROMPT)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  await sizeOf(response)
}

/** In words: what the gateway adds to a model request, in the median. */
export function added(rows: BenchRow[]): string {
  const latency = rows.find(({ unit }) => unit === 'ms')
  if (latency === undefined) return ''
  return `The gateway adds ${(latency.measured.median - latency.floor.median).toFixed(2)} ms to a model request (medians).`
}

if (import.meta.main) {
  const rows = await run()
  printRows(rows)
  console.log(`\n${added(rows)}`)
}
