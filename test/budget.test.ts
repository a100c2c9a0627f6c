import { afterAll, beforeAll, expect, test } from 'vitest'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

/** Each answer of the script costs $0.0059: the second request begins below the limit and ends above it. */
const DAY_USD = 0.01

const write = (name: string) => ({
  type: 'tool_use' as const,
  name: 'Bash',
  input: { command: `echo ${name} > ${name}` },
})

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({
    script: { conversations: [conversation('spend', [write('one'), write('two'), { type: 'text', text: 'Done.' }])] },
    settings: { budgets: { user: { dayUsd: DAY_USD } } },
  })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

/** Runs the task to its end; resolves with it and by how much its events say that a budget was overspent. */
async function spend() {
  const { client } = orchestrator
  const { id } = await client.tasks.submit({ prompt: 'spend' })
  const overspent: number[] = []
  for await (const event of client.tasks.follow(id))
    if (event.type === 'usage' && event.overBudgetUsd !== undefined) overspent.push(event.overBudgetUsd)
  return { task: await client.tasks.get(id), overspent }
}

const answered = () => orchestrator.model.requests.filter(({ method }) => method === 'POST').length

test('a budget that is spent ends the task by name, with what it has done so far; after a restart the next task gets nothing', async () => {
  const { task, overspent } = await spend()
  expect(task).toMatchObject({ status: 'over_budget', costUsd: expect.closeTo(0.0118, 6) })
  expect(task.error?.message).toMatch(/^The budget of owner for the day .* is spent: \$0\.0118 of \$0\.01\. .*dayUsd/)
  expect(task.files.map(({ path }) => path).toSorted()).toEqual(['one', 'two'])
  expect(overspent).toEqual([expect.closeTo(0.0018, 6)])
  expect(answered()).toBe(2)

  await orchestrator.restart()
  const { task: next } = await spend()
  expect(next).toMatchObject({ status: 'over_budget', costUsd: 0 })
  expect(answered()).toBe(2)
})
