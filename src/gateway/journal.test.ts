/** What is counted of model requests whose orchestrator is killed. A kill is played by its database's files as they are at that moment. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'kysely'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import type { Storage } from '../store/types.ts'
import { openTestGateway, startHeldUpstream, type TestGateway } from './test-gateway.ts'
import { answerOn, MODEL_REQUEST, type TestGuest } from './test-guest.ts'
import type { ModelUsage } from './types.ts'
import { createUsage } from './usage.ts'

const MAX_TOKENS = 64_000
const BODY = JSON.stringify({
  model: 'claude-opus-5-5',
  stream: true,
  max_tokens: MAX_TOKENS,
  messages: ['x'.repeat(2900)],
})
const ESTIMATED_INPUT = Math.ceil(BODY.length / 3)
/** Dollars of claude-opus-5-5. */
const usd = (inputTokens: number, outputTokens: number) => (inputTokens * 4 + outputTokens * 20) / 1e6

const event = (data: { type: string } & Record<string, unknown>) =>
  `event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`
const START = event({
  type: 'message_start',
  message: { model: 'claude-opus-5-5', usage: { input_tokens: 1000, output_tokens: 1 } },
})
const DELTA = event({ type: 'content_block_delta', delta: { type: 'text_delta', text: 'word'.repeat(50) } })
const END = event({ type: 'message_delta', usage: { output_tokens: 42 } }) + event({ type: 'message_stop' })
const SSE = { 'content-type': 'text/event-stream' }

let stack: AsyncDisposableStack
let folder: string
let upstream: Awaited<ReturnType<typeof startHeldUpstream>>
let gateway: TestGateway

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  folder = mkdtempSync(join(tmpdir(), 'vivarium-journal-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  upstream = stack.use(await startHeldUpstream())
  gateway = stack.use(await openTestGateway(upstream.url, { databasePath: join(folder, 'live.db') }))
})

afterEach(() => stack.disposeAsync())

let kills = 0

/** The gateway of an orchestrator that is started after this one was killed just now. */
async function afterKill(path = join(folder, 'live.db')): Promise<TestGateway & { path: string }> {
  const copy = join(folder, `killed-${(kills += 1)}.db`)
  copyFileSync(path, copy)
  copyFileSync(`${path}-wal`, `${copy}-wal`)
  return { ...stack.use(await openTestGateway(upstream.url, { databasePath: copy })), path: copy }
}

const openRequests = () => gateway.database.selectFrom('modelRequests').selectAll().execute()

/** The answer to the newest request, once that has come. */
async function answering() {
  await expect.poll(() => upstream.asked.length).toBeGreaterThan(0)
  const response = upstream.asked.at(-1)
  if (response === undefined) throw new Error('nothing was asked')
  return response
}

interface Stage {
  name: string
  /** Brings a request of task t_1 to the stage at which the kill comes. */
  reach(guest: TestGuest): Promise<unknown>
  counted: Partial<ModelUsage>[]
}

const incomplete = { model: 'claude-opus-5-5', complete: false }

const STAGES: Stage[] = [
  {
    name: 'when a part of it was sent',
    async reach(guest) {
      const stream = guest.http2.request(MODEL_REQUEST).on('error', () => undefined)
      stream.write(BODY.slice(0, 1000))
      await expect.poll(() => stream.writableLength).toBe(0)
      stream.write(BODY.slice(1000))
      await expect.poll(() => upstream.begun).toHaveLength(1)
    },
    counted: [],
  },
  {
    name: 'before its answer',
    async reach(guest) {
      guest.send(MODEL_REQUEST, BODY)
      await answering()
    },
    counted: [
      {
        ...incomplete,
        status: 0,
        inputTokens: ESTIMATED_INPUT,
        outputTokens: 0,
        costUsd: usd(ESTIMATED_INPUT, 0),
        chargedUsd: usd(ESTIMATED_INPUT, MAX_TOKENS),
      },
    ],
  },
  {
    name: 'in the middle of its answer',
    async reach(guest) {
      guest.send(MODEL_REQUEST, BODY)
      ;(await answering()).writeHead(200, SSE).write(START)
      await expect.poll(openRequests).toMatchObject([{ inputTokens: 1000, outputTokens: 1, status: 200 }])
      ;(await answering()).write(DELTA)
      await expect.poll(openRequests, { timeout: 5000 }).toMatchObject([{ inputTokens: 1000, outputTokens: 50 }])
    },
    counted: [
      {
        ...incomplete,
        status: 200,
        inputTokens: 1000,
        outputTokens: 50,
        costUsd: usd(1000, 50),
        chargedUsd: usd(1000, MAX_TOKENS),
      },
    ],
  },
  {
    name: 'after its answer',
    async reach(guest) {
      const answer = guest.ask(MODEL_REQUEST, BODY)
      ;(await answering()).writeHead(200, SSE).end(START + END)
      await answer
      await expect.poll(openRequests).toEqual([])
    },
    counted: [
      {
        complete: true,
        status: 200,
        inputTokens: 1000,
        outputTokens: 42,
        costUsd: usd(1000, 42),
        chargedUsd: usd(1000, 42),
      },
    ],
  },
  {
    name: 'after it was refused',
    async reach(guest) {
      const answer = guest.ask(MODEL_REQUEST, BODY)
      ;(await answering()).writeHead(500).end('{}')
      await answer
      await expect.poll(openRequests).toEqual([])
    },
    counted: [],
  },
]

test.each(STAGES)(
  'a request whose orchestrator is killed $name is counted once, however often it is killed',
  async (stage) => {
    const { guest } = gateway.machine({ taskId: 't_1' })
    await stage.reach(await guest())

    const next = await afterKill()
    await next.gateway.settle()
    const counted = await next.gateway.recordsOf('t_1')
    expect(counted).toEqual(stage.counted.map((expected) => expect.objectContaining(expected)))

    const third = await afterKill(next.path)
    await Promise.all([third.gateway.settle(), third.gateway.settle()])
    expect(await third.gateway.recordsOf('t_1')).toEqual(counted)
    expect(await third.database.selectFrom('modelRequests').selectAll().execute()).toEqual([])
    const { session } = third.machine({ taskId: 't_1' })
    await session.settled()
    const costUsd = counted.reduce((sum, usage) => sum + (usage.costUsd ?? 0), 0)
    expect(session.totals()).toMatchObject({ requests: counted.length, costUsd })
    const rows = await createUsage(third.database).query({ by: 'task' })
    expect(rows.map((row) => [row.requests, row.costUsd])).toEqual(
      counted.length === 0 ? [] : [[counted.length, costUsd]],
    )
  },
)

test('what a killed request can have cost is spent of its budgets, and that is said', async () => {
  const { guest } = gateway.machine({ taskId: 't_1', maxCostUsd: 1 })
  ;(await guest()).send(MODEL_REQUEST, BODY)
  await answering()

  // Nobody calls `settle` here: no request goes out before.
  const next = await afterKill()
  const { session, guest: again } = next.machine({ taskId: 't_1', maxCostUsd: 1 })
  expect((await (await again()).ask(MODEL_REQUEST, BODY)).status).toBe(402)
  const charged = usd(ESTIMATED_INPUT, MAX_TOKENS).toFixed(4)
  expect(session.totals().overBudgetReason).toContain(`The budget of this task is spent: $${charged} of $1.`)
})

test('a settlement that is cut off has counted nothing, and is done at the next', async () => {
  const { guest } = gateway.machine({ taskId: 't_1' })
  ;(await guest()).send(MODEL_REQUEST, BODY)
  await answering()
  const next = await afterKill()
  await sql`CREATE TRIGGER cut BEFORE DELETE ON model_requests BEGIN SELECT RAISE(ABORT, 'cut'); END`.execute(
    next.database,
  )
  await expect(next.gateway.settle()).rejects.toMatchObject({ code: 'storage_failed' })
  expect(await next.gateway.recordsOf('t_1')).toEqual([])
  await sql`DROP TRIGGER cut`.execute(next.database)
  await next.gateway.settle()
  expect(await next.gateway.recordsOf('t_1')).toHaveLength(1)
})

test('whoever hears of a request finds it stored', async () => {
  const found: Promise<ModelUsage[]>[] = []
  const { session, guest } = gateway.machine({
    taskId: 't_1',
    onUsage: () => found.push(afterKill().then((next) => next.gateway.recordsOf('t_1'))),
  })
  const client = await guest()
  const answer = client.ask(MODEL_REQUEST, BODY)
  ;(await answering()).writeHead(200, SSE).end(START + END)
  await answer
  await session.settled()
  expect(await Promise.all(found)).toMatchObject([[{ complete: true, outputTokens: 42 }]])
})

/** Lets nothing be inserted into a table until the function given back is called. */
async function fill(table: string): Promise<() => Promise<unknown>> {
  const trigger = `CREATE TRIGGER full BEFORE INSERT ON ${table} BEGIN SELECT RAISE(ABORT, 'disk full'); END`
  await sql.raw(trigger).execute(gateway.database)
  return () => sql`DROP TRIGGER full`.execute(gateway.database)
}

let attempts = 0

/** Tries what fails again, as on a disk that will have room at some time. */
function patientStorage(): Storage {
  attempts = 0
  return {
    ...SOUND_STORAGE,
    async persist(work) {
      for (;;) {
        attempts += 1
        try {
          return await work()
        } catch {
          await sleep(5)
        }
      }
    },
  }
}

test('a request that cannot be written down is never sent whole: the agent is told to try again', async () => {
  await fill('model_requests')
  const { guest, errors } = gateway.machine({ taskId: 't_1' })
  const refused = await (await guest()).ask(MODEL_REQUEST, BODY)
  expect([refused.status, JSON.parse(refused.body)]).toMatchObject([529, { error: { type: 'overloaded_error' } }])
  expect(errors).toMatchObject([{ status: 529, message: expect.stringContaining('disk full') }])
  expect(upstream.asked).toEqual([])
})

test('while the disk takes nothing, requests and the ends of answers wait for it', async () => {
  const path = join(folder, 'patient.db')
  gateway = stack.use(await openTestGateway(upstream.url, { databasePath: path, storage: patientStorage() }))
  const { guest, usages, session } = gateway.machine({ taskId: 't_1' })
  const client = await guest()
  const makeRoomForRequests = await fill('model_requests')
  const stream = client.send(MODEL_REQUEST, BODY)
  const answer = answerOn(stream)
  await expect.poll(() => attempts).toBeGreaterThan(2)
  expect(upstream.asked).toEqual([])
  await makeRoomForRequests()

  const response = await answering()
  const makeRoomForCounts = await fill('usage_records')
  response.writeHead(200, SSE).end(START + END)
  await expect.poll(() => session.totals().requests).toBe(1)
  // Killed now, it is one that nobody saw the end of.
  const next = await afterKill(path)
  await sql`DROP TRIGGER full`.execute(next.database)
  await next.gateway.settle()
  expect(await next.gateway.recordsOf('t_1')).toMatchObject([{ complete: false }])
  expect([usages, stream.readableEnded]).toEqual([[], false])
  await makeRoomForCounts()
  expect((await answer).body).toBe(START + END)
  expect(usages).toMatchObject([{ complete: true, outputTokens: 42 }])
  expect(await gateway.gateway.recordsOf('t_1')).toEqual(usages)
})

test.each([
  { kind: 'streamed', type: 'text/event-stream', stream: true, body: START + END },
  {
    kind: 'in one piece',
    type: 'application/json',
    stream: false,
    body: JSON.stringify({ model: 'claude-opus-5-5', usage: { input_tokens: 1000, output_tokens: 42 } }),
  },
])('an answer $kind that the agent has seen to its end is counted whole, whenever the kill comes', async (answer) => {
  const { guest } = gateway.machine({ taskId: 't_1' })
  const stream = (await guest()).send(MODEL_REQUEST, BODY.replace('"stream":true', `"stream":${answer.stream}`))
  const response = (await answering()).writeHead(200, { 'content-type': answer.type })
  response.write(answer.body.slice(0, -20))
  response.write(answer.body.slice(-20))
  // Of a stream the agent knows the end before the connection says it.
  if (!answer.stream) response.end()
  let seen = ''
  const killed = new Promise<TestGateway>((resolve, reject) => {
    stream.setEncoding('utf8').on('data', (text: string) => {
      seen += text
      if (seen.length === answer.body.length) afterKill().then(resolve, reject)
    })
  })
  const next = await killed
  await next.gateway.settle()
  expect(await next.gateway.recordsOf('t_1')).toMatchObject([{ complete: true, inputTokens: 1000, outputTokens: 42 }])
})

test('an answer in one piece that is cut off is counted with all that the request allowed', async () => {
  const { guest, session, usages } = gateway.machine({ taskId: 't_1' })
  const cut = (await guest()).ask(MODEL_REQUEST, BODY.replace('"stream":true', '"stream":false')).catch(() => 'cut')
  const response = await answering()
  response.writeHead(200, { 'content-type': 'application/json' }).write('{"model":')
  await expect.poll(openRequests).toMatchObject([{ outputTokens: MAX_TOKENS, status: 200 }])
  response.destroy()
  expect(await cut).toBe('cut')
  await session.settled()
  expect(usages).toMatchObject([{ ...incomplete, outputTokens: MAX_TOKENS, status: 200 }])
})
