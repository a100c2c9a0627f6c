/** What the measurements share: an orchestrator as a process of its own, this host's parts of a bare machine, a reader. */
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import type { TaskEvent } from '../src/contracts/event.ts'
import type { Task } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from '../test/support/orchestrator.ts'
import { findBareHost, type BareHost } from './bare-machine.ts'

export interface Lab extends AsyncDisposable {
  orchestrator: TestOrchestrator
  host: BareHost
  /** Repetitions of what takes seconds. */
  runs: number
  /** Aborts when the run is to be given up: looked at before each repetition. */
  signal: AbortSignal
}

/** Opens the lab. The orchestrator is ready: its engine is chosen, so that no measurement pays for that. */
export async function openLab(options: Pick<Lab, 'runs' | 'signal'>): Promise<Lab> {
  const host = await findBareHost()
  await using stack = new AsyncDisposableStack()
  const orchestrator = await startOrchestrator({
    script: { conversations: [] },
    env: { VIVARIUM_MACHINES_MAX_MACHINES: '10', VIVARIUM_MACHINES_VCPUS_PER_CORE: '16' },
  })
  // Its folder of sockets stays for its next start, which this one has not.
  stack.defer(() => rm(orchestrator.runDir, { recursive: true, force: true }))
  stack.use(orchestrator)
  await orchestrator.client.ready()
  const resources = stack.move()
  return { ...options, host, orchestrator, [Symbol.asyncDispose]: () => resources.disposeAsync() }
}

/** Reads a task's WebSocket to its end, as a dashboard would; resolves with the finished task, rejects unless it succeeded. */
export async function readToEnd(
  { url, key, client }: TestOrchestrator,
  taskId: string,
  onEvent: (event: TaskEvent) => void,
): Promise<Task> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/api/v1/tasks/${taskId}/stream`, {
    headers: { authorization: `Bearer ${key}` },
  })
  socket.on('message', (data) => onEvent(JSON.parse(String(data)) as TaskEvent))
  await once(socket, 'close')
  const task = await client.tasks.get(taskId)
  if (task.status !== 'succeeded') throw new Error(`Task ${taskId} ${task.status}: ${task.error?.message ?? ''}`)
  return task
}

/** Resolves when nothing of earlier tasks is left running, so that it does not slow the next measurement. */
export async function untilIdle({ client }: TestOrchestrator): Promise<void> {
  const deadline = AbortSignal.timeout(60_000)
  while ((await client.vms.list()).length > 0) {
    deadline.throwIfAborted()
    await sleep(100)
  }
}
