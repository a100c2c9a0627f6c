import { expect, test } from 'vitest'
import { setUpMcp } from './testing/set-up.ts'

test.each(['legacy', 'modern'] as const)(
  'calls that wait when the server goes are answered with how the task stands, which nobody cancels (%s era)',
  async (era) => {
    await using mcp = await setUpMcp({ graceMs: 1 })
    const client = await mcp.connect('http', era)
    const running = client.callTool({ name: 'run_task', arguments: { prompt: 'x' } })
    const { id } = await mcp.tasks.submitted()
    const waiting = client.callTool({ name: 'wait_for_task', arguments: { task_id: id, wait_seconds: 3600 } })
    await expect.poll(() => mcp.log.readers).toBe(2)
    mcp.shutdown.ending.abort()
    for (const call of [running, waiting])
      expect((await call).structuredContent).toMatchObject({ task_id: id, done: false, status: 'queued' })
    await mcp.log.noReaders()
    expect(mcp.tasks.cancelled).toEqual([])
  },
)
