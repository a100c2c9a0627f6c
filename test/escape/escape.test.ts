import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startScriptedModel, type ScriptedModel } from '../../scripted-model/server.ts'
import type { TaskEvent } from '../../src/contracts/event.ts'
import { startComposed, type Composed, type Held } from '../support/composed.ts'
import { TEST_KEY } from '../support/orchestrator.ts'
import { TRAPS, type Attack } from './attack.ts'
import { NAMED, startCanary, type Canary } from './canary.ts'
import { floods } from './floods.ts'
import { http2 } from './http2.ts'
import { requests } from './requests.ts'
import { sockets } from './sockets.ts'

type Egress = Extract<TaskEvent, { type: 'egress' }>

const PROGRAMS = ['sockets.py', 'requests.py', 'crowd.py', 'egress_port.py']

let stack: AsyncDisposableStack
let canary: Canary
let model: ScriptedModel
let composed: Composed
let guest: Held
/** How often the rebinding name has been looked up. */
let rebinds = 0

/** A name server of the attacker's: it says one thing first and another then. */
async function resolve(host: string): Promise<string[]> {
  if (host !== 'rebind.trap.example') return TRAPS[host] ?? []
  rebinds += 1
  return rebinds % 2 === 1 ? [NAMED] : ['127.0.0.1']
}

beforeAll(async () => {
  await using setUp = new AsyncDisposableStack()
  canary = setUp.use(await startCanary())
  model = setUp.use(await startScriptedModel({ script: { conversations: [] }, requireKey: TEST_KEY }))
  const named = `http://${NAMED}:${canary.port}`
  const upstreams = [
    { name: 'mirror', url: named, allow: [{ method: 'GET', path: '/open/**' }] },
    // In the place of GitHub's, which nothing may reach from here.
    { name: 'github', url: named },
    { name: 'github-api', url: named },
  ]
  composed = setUp.use(
    await startComposed({
      settings: { upstreams },
      env: { VIVARIUM_ANTHROPIC_UPSTREAM: model.url, ANTHROPIC_API_KEY: TEST_KEY },
      resolve,
    }),
  )
  guest = await composed.hold({
    agent: 'shell',
    prompt: 'sleep 3600',
    memoryMib: 1024,
    files: PROGRAMS.map((path) => ({
      path,
      contentBase64: readFileSync(new URL(`guest/${path}`, import.meta.url)).toString('base64'),
    })),
    // As open as a policy can be that names no address of the canary's but one.
    network: { allow: ['all', `${NAMED}:${canary.port}`, `*.trap.example:${canary.port}`] },
  })
  stack = setUp.move()
}, 600_000)

afterAll(() => stack?.disposeAsync())

/** Runs one of the guest's programs as root on a list; returns its list of outcomes. */
async function run<Outcome>(program: string, list: unknown[]): Promise<Outcome[]> {
  const printed = await guest.exec(`sudo python3 ${program}`, { stdin: JSON.stringify(list), timeoutSeconds: 600 })
  return JSON.parse(printed) as Outcome[]
}

async function egress(): Promise<Egress[]> {
  const events = await composed.orchestrator.events.read(guest.taskId, 1, 10_000)
  return events.filter((event) => event.type === 'egress')
}

/** What did not go as it should: attacks by name with what became of them. */
async function failures(attacks: Attack[], outcomes: string[]): Promise<unknown[]> {
  const decisions = await egress()
  const isLogged = ({ log }: Attack) =>
    log === undefined ||
    decisions.some(
      ({ host, port, rule, allowed }) =>
        !allowed &&
        host === log.host &&
        (log.port === undefined || port === log.port) &&
        (typeof log.rule === 'string' ? rule === log.rule : log.rule.test(rule)),
    )
  const outcomeOf = (index: number) => (outcomes[index] ?? 'nothing').slice(0, 500)
  const judged = attacks.map((attack, index) => ({
    name: attack.name,
    outcome: attack.outcome.test(outcomeOf(index)) ? 'as expected' : outcomeOf(index),
    log: isLogged(attack) ? 'as expected' : attack.log,
  }))
  return judged.filter(({ outcome, log }) => outcome !== 'as expected' || log !== 'as expected')
}

/** What the server that the policy names was asked by the ordinary requests of the attacks. */
const ORDINARY = /^(?:GET|POST) (?:\/plain|\/hello|\/open\/x|\/redirect\?.*|\/deaf|\/endless|\/\/127.*|\/\?@.*)$/

function nothingReached(): void {
  expect(canary.reached).toEqual([])
  expect(canary.asked.filter((each) => !ORDINARY.test(each))).toEqual([])
  const paths = model.requests.map(({ method, path }) => `${method} ${path}`)
  expect(new Set(paths)).toEqual(new Set(paths.filter((each) => each === 'GET /v1/models')))
}

test('a rule that names an address opens that address and port', async () => {
  const hello = await guest.exec(`curl -sS http://${NAMED}:${canary.port}/hello`)
  expect(hello).toBe('let through')
  expect(canary.asked).toContain('GET /hello')
})

test('past the gateway there is no way: no network, no device, no loopback but its own', async () => {
  const attacks = sockets(canary)
  const outcomes = await run<string>(
    'sockets.py',
    attacks.map(({ python }) => python),
  )
  expect(await failures(attacks, outcomes)).toEqual([])
  nothingReached()
})

test('no spelling, trick or smuggled request leads through the proxy to what the policy forbids', async () => {
  const attacks = requests(canary)
  const before = (await egress()).length
  const outcomes = await run<string>(
    'requests.py',
    attacks.map(({ to, bytes }) => [to, bytes.toString('base64')]),
  )
  expect(await failures(attacks, outcomes)).toEqual([])
  nothingReached()
  expect((await egress()).length - before).toBeGreaterThan(100)
})

test('a name that changes its address leads nowhere else than where it was checked', async () => {
  const ask = `curl -s -o /dev/null -w '%{http_code} ' http://rebind.trap.example:${canary.port}/hello`
  const printed = await guest.exec(`for n in 1 2 3 4 5 6; do ${ask}; done`)
  expect(printed.trim().split(' ')).toEqual(['200', '403', '200', '403', '200', '403'])
  nothingReached()
})

test('a redirect is followed by the guest, so by its rules', async () => {
  const to = `http://127.0.0.1:${canary.port}/`
  const follow = `curl -sSL --noproxy '' 'http://${NAMED}:${canary.port}/redirect?to=${to}'`
  expect(await guest.exec(follow)).toContain("is not on this task's allow-list")
  nothingReached()
})

test('requests of raw HTTP/2, in place of the guest agent, lead nowhere else', async () => {
  const attacks = http2(canary)
  const orders = attacks.map(({ fields, body = '', open = false }) => ({ fields, body, open }))
  const outcomes = await run<string>('egress_port.py', orders)
  expect(await failures(attacks, outcomes)).toEqual([])
  nothingReached()
})

/**
 * What one machine may make the host hold, in MiB: 256 windows of 256 KiB, 32 MiB of HTTP/2, and as much again of buffers that wait
 * for the garbage collector; with room for what this process holds besides.
 */
const MOST_MEMORY_MIB = 384

/** The most memory of this process, in which the host's end runs, while `work` does; in MiB. */
async function peakOf(work: () => Promise<void>): Promise<number> {
  let peak = 0
  const look = () => (peak = Math.max(peak, process.memoryUsage.rss() / 1024 ** 2))
  const timer = setInterval(look, 20)
  look()
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return peak
}

test('a machine has no more connections at once than it may, however many it asks for', async () => {
  const order = { name: 'crowd', authority: `${NAMED}:${canary.port}`, count: 600 }
  expect(await run<unknown>('egress_port.py', [order])).toEqual([{ '200': 256, refused: 344 }])
  expect(canary.connections.most).toBe(256)
  nothingReached()
})

test('floods cost a guest its session, and the host a bounded amount of memory', async () => {
  const before = await peakOf(async () => undefined)
  const list = floods(canary)
  let outcomes: unknown[] = []
  const peak = await peakOf(async () => {
    outcomes = await run<unknown>(
      'egress_port.py',
      list.map(({ order }) => order),
    )
  })
  const wrong = list.flatMap(({ name, outcome }, index) => {
    const text = JSON.stringify(outcomes[index])
    return outcome.test(text) ? [] : [{ name, outcome: text }]
  })
  expect(wrong).toEqual([])
  expect(peak - before).toBeLessThan(MOST_MEMORY_MIB)
  nothingReached()
})

test('5,000 connections to the proxy, and 2,000 that never finish their request, reach nothing and end nothing', async () => {
  const before = await peakOf(async () => undefined)
  const refused = `CONNECT 127.0.0.1:${canary.port} HTTP/1.1\r\nHost: x\r\n\r\n`
  const half = `POST http://${NAMED}:${canary.port}/plain HTTP/1.1\r\nHost: x\r\nContent-Le`
  const crowd = async (order: object): Promise<unknown> =>
    JSON.parse(await guest.exec('sudo python3 crowd.py', { stdin: JSON.stringify(order) }))
  const peak = await peakOf(async () => {
    // As many are answered as the guest agent has file descriptors for; the others are its own refusals.
    expect(await crowd({ count: 5000, bytes: refused, seconds: 10 })).toMatchObject({ '403': expect.any(Number) })
    expect(await crowd({ count: 2000, bytes: half, seconds: 5 })).toEqual({ opened: 2000 })
  })
  expect(peak - before).toBeLessThan(MOST_MEMORY_MIB)
  nothingReached()
})

test('after all of that the machine has its way out again, and its log is bounded and says that it is', async () => {
  expect(await guest.exec(`curl -sS http://${NAMED}:${canary.port}/hello`)).toBe('let through')
  const decisions = await egress()
  // 1,000 of a kind, and a line that there are more.
  const ofKind = (kind: boolean) => decisions.filter(({ allowed }) => allowed === kind)
  expect(ofKind(false)).toHaveLength(1001)
  expect(ofKind(false).at(-1)?.rule).toBe('further denied requests are not reported')
  expect(ofKind(true).length).toBeLessThanOrEqual(1001)
})

test('the canary hears of whatever reaches it', async () => {
  const socket = connect(canary.port, '127.0.0.1').resume()
  await once(socket, 'end')
  socket.destroy()
  const datagrams = createSocket('udp4')
  datagrams.send('x', canary.port, '127.0.0.1', () => datagrams.close())
  await expect.poll(() => canary.reached).toEqual([`tcp 127.0.0.1:${canary.port}`, `udp 127.0.0.1:${canary.port}`])
})
