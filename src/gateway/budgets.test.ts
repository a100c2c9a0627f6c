import { array, assert, asyncProperty, double, nat, record } from 'fast-check'
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Budgets, NO_BUDGETS, type Payer } from './budgets.ts'
import { openDatabase } from '../store/database.ts'
import { Spending } from './spending.ts'
import { openTestGateway, startUpstream } from './test-gateway.ts'

const PROMPT = { model: 'claude-opus-5-5', max_tokens: 1000, messages: [] }
/** $0.10 at $20 for a million tokens. */
const ANSWER = JSON.stringify({ model: 'claude-opus-5-5', usage: { output_tokens: 5000 } })

/** An API whose every answer costs $0.10, and that notes how many requests it has at once. */
async function startModel(answer = ANSWER, delayMs = 0) {
  const seen = { requests: 0, now: 0, most: 0 }
  const model = await startUpstream(async (_request, response) => {
    seen.requests += 1
    seen.now += 1
    seen.most = Math.max(seen.most, seen.now)
    await sleep(delayMs)
    seen.now -= 1
    response.writeHead(200, { 'content-type': 'application/json' }).end(answer)
  })
  return Object.assign(model, { seen })
}

test('whatever runs at once, no more is spent than the limit and what was under way when it was reached', async () => {
  await assert(
    asyncProperty(
      array(
        record({
          cost: double({ min: 0.01, max: 2, noNaN: true }),
          expected: double({ min: 0, max: 1, noNaN: true }),
          turns: nat(9),
        }),
        { maxLength: 40 },
      ),
      double({ min: 0.1, max: 10, noNaN: true }),
      async (requests, limitUsd) => {
        await using database = await openDatabase(':memory:')
        const settings = { ...NO_BUDGETS, global: { dayUsd: limitUsd, monthUsd: 0 } }
        const budgets = new Budgets(settings, new Spending(database), () => new Date())
        let spent = 0
        let overspent = 0
        const underWay = new Set<number>()
        let allowed = limitUsd
        await Promise.all(
          requests.map(async ({ cost, expected, turns }, at) => {
            const request = { expectedUsd: () => expected }
            const payer: Payer = { userId: `u_${at % 3}`, userName: 'u', maxCostUsd: undefined, chargedUsd: () => 0 }
            const refusal = await budgets.admit(request, payer, AbortSignal.timeout(5000))
            // One that is refused was refused for what is spent, one that begins has begun below the limit.
            expect(refusal === undefined).toBe(spent < limitUsd)
            if (refusal !== undefined) return
            underWay.add(cost)
            for (let turn = 0; turn <= turns; turn++) await immediate()
            if (spent < limitUsd) allowed = limitUsd + [...underWay].reduce((sum, each) => sum + each, 0)
            spent += cost
            underWay.delete(cost)
            overspent = Math.max(overspent, budgets.end(request, cost, new Date()))
          }),
        )
        expect(spent).toBeLessThanOrEqual(allowed + 1e-9)
        expect(overspent).toBeCloseTo(Math.max(0, spent - limitUsd), 6)
      },
    ),
    { numRuns: 30 },
  )
})

test('near its limit a budget lets requests through one after the other instead of refusing them for an estimate', async () => {
  await using stack = new AsyncDisposableStack()
  const tokens = 4000
  const answer = JSON.stringify({ model: 'claude-opus-5-5', usage: { output_tokens: tokens } })
  const model = stack.use(await startModel(answer, 5))
  const gateway = stack.use(await openTestGateway(model.url))
  const { session, guest, usages } = gateway.machine({ maxCostUsd: 0.95 })
  const client = await guest()
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => client.askModel({ ...PROMPT, max_tokens: tokens })),
  )
  const count = (status: number) => answers.filter((answer) => answer.status === status).length
  // Eleven make $0.88, and the twelfth may start; with all twenty at once it would have been $1.60.
  expect([count(200), count(402)]).toEqual([12, 8])
  expect(session.totals()).toMatchObject({ costUsd: expect.closeTo(0.96, 6), overBudget: true })
  expect(session.totals().overBudgetReason).toBe(
    'The budget of this task is spent: $0.9600 of $0.95. Allow more (maxCostUsd).',
  )
  await session.settled()
  expect(usages.at(-1)?.overBudgetUsd).toBeCloseTo(0.01, 6)
  expect(usages.filter((usage) => usage.overBudgetUsd !== undefined)).toHaveLength(1)
})

test("a user's machines share the user's budget, another user has their own, and the server's counts all", async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startModel())
  const limits = {
    user: { dayUsd: 0.15, monthUsd: 0 },
    users: { bob: { dayUsd: 0.35 } },
    global: { dayUsd: 0, monthUsd: 0.45 },
  }
  const gateway = stack.use(await openTestGateway(model.url, { budgets: limits }))
  await gateway.database
    .insertInto('users')
    .values([
      { id: 'u_1', name: 'ada', isOwner: 1, createdAt: '' },
      { id: 'u_2', name: 'bob', isOwner: 0, createdAt: '' },
    ])
    .execute()
  const day = new Date().toISOString().slice(0, 10)
  const ask = async (userId: string) => {
    const { session, guest } = gateway.machine({ userId })
    const { status } = await (await guest()).askModel(PROMPT)
    return [status, session.totals().overBudgetReason]
  }
  expect(await ask('u_1')).toEqual([200, undefined])
  expect(await ask('u_1')).toEqual([200, undefined])
  const adas = `The budget of ada for the day ${day} (UTC) is spent: $0.2000 of $0.15. Allow more (budgets.user.dayUsd).`
  expect(await ask('u_1')).toEqual([402, adas])
  for (let i = 0; i < 3; i++) expect(await ask('u_2')).toEqual([200, undefined])
  const [status, reason] = await ask('u_2')
  expect([status, reason]).toEqual([402, expect.stringContaining("This server's budget for the month")])
  expect(await ask('u_1')).toEqual([402, adas])
})

test('after a restart budgets and totals go on from what the store holds, and a new day begins at nothing', async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(
    await startModel(JSON.stringify({ model: 'claude-unheard-of', usage: { output_tokens: 5000 } })),
  )
  let time = new Date('2026-11-30T23:59:00Z')
  // A model without a known price is charged $0.75, its cost being unknown.
  const limits = { ...NO_BUDGETS, user: { dayUsd: 0.7, monthUsd: 5 } }
  const gateway = stack.use(await openTestGateway(model.url, { budgets: limits, now: () => time }))
  const before = gateway.machine({ taskId: 't_1' })
  expect((await (await before.guest()).askModel(PROMPT)).status).toBe(200)
  await before.session.close()

  const restarted = stack.use(gateway.restart())
  const after = restarted.machine({ taskId: 't_1', maxCostUsd: 1.5 })
  // It can't be known whether the task has asked in vain already.
  await after.session.settled()
  expect(after.session.totals().overBudgetReason).toContain('budget of u_1 for the day 2026-11-30')
  const client = await after.guest()
  expect((await client.askModel(PROMPT)).status).toBe(402)
  expect(after.session.totals()).toMatchObject({ requests: 1, usage: { outputTokens: 5000 }, costUsd: 0 })
  time = new Date('2026-12-01T00:00:00Z')
  expect((await client.askModel(PROMPT)).status).toBe(200)
  expect((await client.askModel(PROMPT)).status).toBe(402)
  expect(after.session.totals().overBudgetReason).toContain('The budget of this task is spent: $1.5000 of $1.5')
})
