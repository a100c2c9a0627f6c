import { setTimeout as sleep } from 'node:timers/promises'
import { agents } from '../src/agents/agents.ts'
import { createGateway } from '../src/gateway/gateway.ts'
import { openDatabase } from '../src/store/database.ts'
import { SOUND_STORAGE } from '../src/store/testing/sound-storage.ts'
import { startWaitingAgent } from '../src/tasks/waiting-agent.ts'
import { createLogger } from '../src/telemetry/logger.ts'
import { startScriptedModel } from '../scripted-model/server.ts'
import { startOrchestrator, type TestOrchestrator } from '../test/support/orchestrator.ts'
import { conversation } from '../test/support/scripts.ts'
import { findTemplate, firstAnswer, prepareRestore } from './bare-restore.ts'
import { readToEnd, type Lab } from './lab.ts'
import { medianPhases, type PhaseTimes } from './phases.ts'
import { row, type BenchRow } from './report.ts'

const SIZE = { memoryMib: 2048, vcpus: 2 }
const PROMPT = 'count the files'

/** Three turns: two tools, then the answer. */
const script = {
  conversations: [
    conversation(PROMPT, [
      { type: 'tool_use', name: 'Bash', input: { command: 'ls | wc -l' } },
      { type: 'tool_use', name: 'Write', input: { file_path: '/workspace/count.txt', content: '0\n' } },
      { type: 'text', text: 'There are none.' },
    ]),
  ],
}

const DEADLINE_MS = 300_000

interface ReadyTasks {
  rows: BenchRow[]
  phases: PhaseTimes
}

/**
 * Machines in which Claude Code waits. From `POST /tasks` to the first request at the model, beside a bare script that
 * writes the prompt to a Claude that waits in a bare machine; and whole tasks of three turns, beside the same from a cold boot.
 */
export async function run({ host, runs, signal }: Lab): Promise<ReadyTasks> {
  await using ready = await startOrchestrator({
    script,
    env: { VIVARIUM_READY_CLAUDE: '1', VIVARIUM_MACHINES_MAX_MACHINES: '4' },
  })
  await using cold = await startOrchestrator({ script, env: { VIVARIUM_TEMPLATE_ENABLED: 'false' } })
  await ready.client.templates.build(SIZE)
  const template = await findTemplate(SIZE)
  const [request, floor, readyTask, coldTask] = [[], [], [], []] as [number[], number[], number[], number[]]
  const phases: PhaseTimes[] = []
  for (let i = 0; i < runs; i++) {
    signal.throwIfAborted()
    await untilAgentWaits(ready)
    const task = await threeTurns(ready)
    request.push(task.firstRequestMs)
    readyTask.push(task.ms)
    phases.push(task.phases)
    // One machine at a time: the next one is made ready while nothing is measured.
    await untilAgentWaits(ready)
    floor.push(await bareClaude(host, template))
    coldTask.push((await threeTurns(cold)).ms)
  }
  const first = 'ready machine: POST /tasks → first model request'
  return {
    rows: [
      row({
        name: first,
        unit: 'ms',
        measured: request,
        floor,
        floorIs: 'a bare script writes the prompt to a waiting Claude',
      }),
      row({
        name: '3-turn task, ready machine',
        unit: 'ms',
        measured: readyTask,
        floor: coldTask,
        floorIs: 'the same from a cold boot (the product, without templates)',
      }),
    ],
    phases: medianPhases(phases),
  }
}

async function threeTurns(orchestrator: TestOrchestrator) {
  const { client, model } = orchestrator
  const before = model.requests.length
  const began = performance.now()
  const asked = firstRequest(model, before).then(() => performance.now() - began)
  const { id } = await client.tasks.submit({ prompt: PROMPT })
  const task = await readToEnd(orchestrator, id, () => {})
  return { ms: performance.now() - began, firstRequestMs: await asked, phases: task.phases }
}

/** Resolves when the model is asked for an answer. */
async function firstRequest(model: TestOrchestrator['model'], before: number): Promise<void> {
  const deadline = AbortSignal.timeout(DEADLINE_MS)
  while (!model.requests.slice(before).some(({ path }) => path.startsWith('/v1/messages'))) {
    deadline.throwIfAborted()
    await sleep(1)
  }
}

/** Waits until the pool has a machine with an agent, and its host has come to rest. */
async function untilAgentWaits({ url, key }: TestOrchestrator): Promise<void> {
  const deadline = AbortSignal.timeout(DEADLINE_MS)
  const headers = { authorization: `Bearer ${key}` }
  for (;;) {
    deadline.throwIfAborted()
    const text = await (await fetch(`${url}/metrics`, { headers })).text()
    if (/^vivarium_ready_agents [1-9]/m.test(text)) break
    await sleep(200)
  }
  await sleep(1000)
}

/** From writing the prompt to the first request at the model, in a machine without an orchestrator, in ms. */
async function bareClaude(host: Lab['host'], template: string): Promise<number> {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startScriptedModel({ script }))
  const database = await openDatabase(':memory:')
  stack.defer(() => database.destroy())
  const credential = { kind: 'api-key', secret: 'bench' } as const
  const gateway = createGateway({
    config: { anthropic: { upstream: model.url }, network: { allow: [] } },
    database,
    storage: SOUND_STORAGE,
    credentials: { kind: () => credential.kind, use: () => credential },
    registries: [],
    isTrusted: () => false,
    log: createLogger('error'),
  })
  const session = gateway.open({
    machineId: 'vm_000000000000',
    userId: 'u_000000000000',
    taskId: null,
    policy: undefined,
    maxCostUsd: undefined,
  })
  stack.defer(() => session.close())
  const machine = stack.use(await prepareRestore(host, template, SIZE, (socket) => session.accept(socket)))
  await machine.start()
  await firstAnswer(machine)
  const agent = agents['claude-code']
  const waiting = await startWaitingAgent({
    link: machine.link,
    hasBaseline: true,
    agent,
    model: null,
    credentialKind: 'api-key',
    exclude: [],
    timeoutMs: DEADLINE_MS,
    signal: AbortSignal.timeout(DEADLINE_MS),
  })
  await sleep(1000)
  const start = { model: null, maxTurns: null, env: {}, credentialKind: 'api-key' as const, resumes: null }
  const input = agent.input({ ...start, sessionId: waiting.sessionId, prompt: PROMPT })
  const greeted = agent.greeting?.input.length ?? 0
  const began = performance.now()
  const asked = firstRequest(model, 0)
  await machine.link.input(waiting.execId, greeted, input.subarray(greeted), true)
  await asked
  const ms = performance.now() - began
  waiting.release()
  return ms
}
