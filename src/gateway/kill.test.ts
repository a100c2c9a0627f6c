/** Many requests at once, and a kill at any moment. */
import { array, assert, asyncProperty, constantFrom, nat, record, type Arbitrary } from 'fast-check'
import type { Selectable } from 'kysely'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { UsageRecordsTable } from '../store/tables.ts'
import { openTestGateway, startUpstream } from './test-gateway.ts'
import { MODEL_REQUEST } from './test-guest.ts'

const BODY = JSON.stringify({ model: 'claude-opus-5-5', stream: true, max_tokens: 500, messages: ['x'.repeat(3000)] })
const INPUT = 1000
/** Dollars of claude-opus-5-5. */
const usd = (outputTokens: number) => (INPUT * 4 + outputTokens * 20) / 1e6

const event = (data: { type: string } & Record<string, unknown>) => `data: ${JSON.stringify(data)}\n\n`
const START = event({ type: 'message_start', message: { model: 'claude-opus-5-5', usage: { input_tokens: INPUT } } })

const Plan = record({
  end: constantFrom('whole' as const, 'refused' as const, 'cut' as const, 'hang' as const),
  outputTokens: nat(500),
  pauseMs: nat(15),
})

type Plan = Value<typeof Plan>
type Value<Of> = Of extends Arbitrary<infer Type> ? Type : never

/** Whether a request is counted as it should be; if not, how. */
function judge(
  { end, outputTokens }: Plan,
  [counted, ...more]: Selectable<UsageRecordsTable>[],
  { received, served }: { received: boolean; served: boolean },
): string {
  if (more.length > 0) return 'counted twice'
  if (counted === undefined) return received ? 'lost' : 'right'
  if (counted.complete === 0)
    return counted.chargeUsd >= usd(end === 'cut' ? 1 : outputTokens) ? 'right' : 'charged too little'
  const { inputTokens, outputTokens: output, costUsd, chargeUsd } = counted
  const isExact = inputTokens === INPUT && output === outputTokens && costUsd === usd(outputTokens)
  return served && isExact && chargeUsd === costUsd ? 'right' : 'not what was served'
}

/** An API that answers request `a1` as the second plan says, and notes what it has served. */
async function startPlanned(plans: Plan[]) {
  const received = new Set<string>()
  const served = new Set<string>()
  const upstream = await startUpstream(async (request, response) => {
    const name = String(request.headers['x-claude-code-agent-id'])
    const { end, outputTokens, pauseMs } = plans[Number(name.slice(1))] ?? { end: 'hang', outputTokens: 0, pauseMs: 0 }
    const body = await text(request).catch(() => undefined)
    if (body === undefined) return
    if (end === 'refused') return void response.writeHead(500).end('{}')
    received.add(name)
    await sleep(pauseMs)
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(START)
    response.write(event({ type: 'content_block_delta', delta: { type: 'text_delta', text: 'word' } }))
    await sleep(pauseMs)
    if (end === 'cut') return void response.destroy()
    if (end === 'hang') return
    const usage = { output_tokens: outputTokens }
    response.end(event({ type: 'message_delta', usage }) + event({ type: 'message_stop' }))
    served.add(name)
  })
  return { ...upstream, received, served }
}

test('whenever it is killed, each request that was sent is counted once: exactly, or at no less than it can have cost', async () => {
  await assert(
    asyncProperty(array(Plan, { minLength: 1, maxLength: 8 }), nat(50), async (plans, killAfterMs) => {
      await using stack = new AsyncDisposableStack()
      const folder = mkdtempSync(join(tmpdir(), 'vivarium-kill-'))
      stack.defer(() => rmSync(folder, { recursive: true }))
      const upstream = stack.use(await startPlanned(plans))
      const path = join(folder, 'live.db')
      const gateway = stack.use(await openTestGateway(upstream.url, { databasePath: path }))
      const { guest, usages } = gateway.machine({ taskId: 't_1' })
      const client = await guest()
      const answers = plans.map((_, at) =>
        client.ask({ ...MODEL_REQUEST, 'x-claude-code-agent-id': `a${at}` }, BODY).catch(() => undefined),
      )
      void Promise.all(answers)
      await sleep(killAfterMs)

      copyFileSync(path, join(folder, 'killed.db'))
      copyFileSync(`${path}-wal`, join(folder, 'killed.db-wal'))
      const [received, served, told] = [new Set(upstream.received), new Set(upstream.served), [...usages]]
      const next = stack.use(await openTestGateway(upstream.url, { databasePath: join(folder, 'killed.db') }))
      await next.gateway.settle()

      const records = await next.database.selectFrom('usageRecords').selectAll().execute()
      const verdicts = plans.map((plan, at) => {
        const counted = records.filter(({ agentId }) => agentId === `a${at}`)
        return judge(plan, counted, { received: received.has(`a${at}`), served: served.has(`a${at}`) })
      })
      expect(verdicts).toEqual(plans.map(() => 'right'))
      expect(await next.gateway.recordsOf('t_1')).toEqual(expect.arrayContaining(told))
    }),
    { numRuns: 10 },
  )
})
