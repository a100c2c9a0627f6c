import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TaskEvent } from '../src/contracts/event.ts'
import type { Task, TaskRequestInput } from '../src/contracts/task.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

const hold = `python3 -c "import time; print('holding', flush=True); open('/workspace/before.txt','w').write('kept'); time.sleep(3600)"`

const script = {
  conversations: [
    conversation('hold on', [
      { type: 'text', text: 'I hold on.' },
      { type: 'tool_use', name: 'Bash', input: { command: hold, timeout: 600_000 } },
      { type: 'text', text: 'Never said.' },
    ]),
  ],
}

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

const CLAUDE = { prompt: 'hold on' }
/** The same command without an agent, for what is not about one. */
const SHELL = { prompt: hold, agent: 'shell' } as const

/** Starts a task, does `harm` to its machine once its command runs, and returns how it ended. */
async function harmed(request: TaskRequestInput, harm: (vmId: string) => Promise<void>) {
  const { tasks, vms } = orchestrator.client
  const { id } = await tasks.submit(request)
  const events: TaskEvent[] = []
  for await (const event of tasks.follow(id)) {
    events.push(event)
    if (event.type !== 'tool_call' && event.type !== 'raw') continue
    const vmId = (await tasks.get(id)).vmId ?? ''
    await untilHolding(vmId)
    await harm(vmId)
  }
  const task = await tasks.get(id)
  await expectNothingLeft(task, events)
  return { task, events, machines: await vms.list() }
}

async function untilHolding(vmId: string): Promise<void> {
  const found = await orchestrator.client.vms.exec(vmId, {
    command: 'until [ -s before.txt ]; do sleep 0.2; done',
    timeoutSeconds: 120,
  })
  expect(found).toMatchObject({ exitCode: 0 })
}

async function expectNothingLeft(task: Task, events: TaskEvent[]): Promise<void> {
  expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
  const said = events.flatMap((event) => (event.type === 'text' || event.type === 'raw' ? [event.text.trim()] : []))
  expect(['I hold on.', 'holding']).toContain(said[0])
  expect(events.at(-1)).toMatchObject({ type: 'status', status: task.status })
  expect(await orchestrator.client.vms.list()).toEqual([])
  expect(processesNaming(task.vmId ?? 'no machine')).toEqual([])
}

/** What a machine has written is on its disk, where it survives the machine. */
async function onDisk(vmId: string): Promise<void> {
  expect(await orchestrator.client.vms.exec(vmId, { command: 'sync', timeoutSeconds: 60 })).toMatchObject({
    exitCode: 0,
  })
}

function logs(events: TaskEvent[]): string[] {
  return events.flatMap((event) => (event.type === 'log' ? [event.message] : []))
}

function killAll(pids: number[]): void {
  for (const pid of pids)
    if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('qemu')) process.kill(pid, 'SIGKILL')
}

describe('a task that is broken off says why, keeps its events and what is on its disk, and leaves nothing running', () => {
  test('QEMU is killed, as by a host that is short of memory', async () => {
    const { task, events } = await harmed(SHELL, async (vmId) => {
      await onDisk(vmId)
      killAll(processesNaming(vmId))
    })
    expect(task).toMatchObject({
      status: 'failed',
      error: { code: 'guest_lost', message: expect.stringMatching(/QEMU|machine/i) },
    })
    expect({ files: task.files.map((file) => file.path), told: logs(events) }).toMatchObject({ files: ['before.txt'] })
  })

  test('the guest’s agent is killed', async () => {
    const { task, events } = await harmed(SHELL, async (vmId) => {
      await onDisk(vmId)
      // Its own link is cut by this, so that the command can't report back.
      await orchestrator.client.vms
        .exec(vmId, { command: 'sudo pkill -9 -f agent.mjs', timeoutSeconds: 30 })
        .catch(() => {})
    })
    expect(task).toMatchObject({ status: 'failed', error: { code: 'guest_lost' } })
    expect({ files: task.files.map((file) => file.path), told: logs(events) }).toMatchObject({ files: ['before.txt'] })
  })

  test('Claude is killed', async () => {
    const { task } = await harmed(CLAUDE, async (vmId) => {
      await orchestrator.client.vms.exec(vmId, { command: 'sudo pkill -9 -x claude', timeoutSeconds: 30 })
    })
    expect(task).toMatchObject({
      status: 'failed',
      exitCode: 137,
      error: { code: 'agent_failed', message: expect.stringContaining('SIGKILL') },
    })
    expect(task.files.map((file) => file.path)).toEqual(['before.txt'])
  })

  test('the time limit ends the agent and all it started; files still come back', async () => {
    const { task } = await harmed({ ...SHELL, timeoutSeconds: 15 }, async () => {})
    expect(task).toMatchObject({ status: 'timed_out', error: { code: 'timed_out' } })
    expect(task.files.map((file) => file.path)).toEqual(['before.txt'])
  })

  test('cancelling ends the agent; files still come back', async () => {
    const { task } = await harmed(CLAUDE, async () => {
      const running = (await orchestrator.client.tasks.list({ status: 'running' })).items[0]
      await orchestrator.client.tasks.cancel(running?.id ?? '')
    })
    expect(task).toMatchObject({ status: 'cancelled' })
    expect(task.files.map((file) => file.path)).toEqual(['before.txt'])
  })

  test('a machine destroyed by its user fails its task, saying so', async () => {
    const { task } = await harmed(SHELL, (vmId) => orchestrator.client.vms.destroy(vmId))
    expect(task).toMatchObject({
      status: 'failed',
      error: { code: 'machine_destroyed', message: expect.stringMatching(/destroyed/) },
    })
  })
})
