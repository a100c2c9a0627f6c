import { startBareAgent } from './bare-agent.ts'
import { startBareShell } from './bare-shell.ts'
import { startOrchestrator, type TestOrchestrator } from '../test/support/orchestrator.ts'
import { readToEnd, untilIdle, type Lab } from './lab.ts'
import { medianPhases, type PhaseTimes } from './phases.ts'
import { row, type BenchRow } from './report.ts'

/** Rows, and how long each step of a start took, in ms. */
interface ColdStarts {
  rows: BenchRow[]
  phases: PhaseTimes
}

/**
 * From the API call to the first output event at a WebSocket, in an orchestrator that runs already. Beside it the same machine
 * without an orchestrator, from QEMU's start to the first output: once with a shell where the agent would be, which is the
 * floor under agent and all, once with the agent.
 */
export async function run(lab: Lab): Promise<ColdStarts> {
  const measured: number[] = []
  const shell: number[] = []
  const agent: number[] = []
  const phases: PhaseTimes[] = []
  const settings = { script: { conversations: [] }, env: { VIVARIUM_TEMPLATE_ENABLED: 'false' } }
  await using orchestrator = await startOrchestrator(settings)
  await orchestrator.client.ready()
  for (let i = 0; i < lab.runs; i++) {
    lab.signal.throwIfAborted()
    shell.push(await timed(() => firstOutputOfShell(lab)))
    agent.push(await timed(() => firstOutputOfAgent(lab)))
    const start = await firstOutputOfTask(orchestrator)
    measured.push(start.ms)
    phases.push(start.phases)
  }
  const name = 'cold start: API call → first output'
  return {
    rows: [
      row({ name, unit: 'ms', measured, floor: shell, floorIs: 'same machine, a shell instead of the agent' }),
      row({ name, unit: 'ms', measured, floor: agent, floorIs: 'same machine with its agent, no orchestrator' }),
    ],
    phases: medianPhases(phases),
  }
}

async function firstOutputOfTask(orchestrator: TestOrchestrator): Promise<{ ms: number; phases: PhaseTimes }> {
  await untilIdle(orchestrator)
  const began = performance.now()
  const { id } = await orchestrator.client.tasks.submit({ prompt: 'echo hello', agent: 'shell' })
  let ms: number | undefined
  const task = await readToEnd(orchestrator, id, (event) => {
    if (event.type === 'raw') ms ??= performance.now() - began
  })
  if (ms === undefined) throw new Error(`Task ${id} printed nothing.`)
  // What comes after the first output is no part of a start.
  const steps = task.phases.slice(
    0,
    task.phases.findIndex(({ name }) => name === 'agent run'),
  )
  const known = steps.reduce((sum, step) => sum + step.ms, 0)
  return { ms, phases: [...steps, { name: 'shell started, its output on its way', ms: ms - known }] }
}

async function firstOutputOfShell({ host }: Lab): Promise<AsyncDisposable> {
  const shell = await startBareShell(host)
  await shell.run('echo hello')
  return shell
}

async function firstOutputOfAgent({ host }: Lab): Promise<AsyncDisposable> {
  const agent = await startBareAgent(host)
  await agent.exec(['echo', 'hello'])
  return agent
}

/** How long `start` takes, in ms. What it made is removed afterwards. */
async function timed(start: () => Promise<AsyncDisposable>): Promise<number> {
  const began = performance.now()
  await using _made = await start()
  return performance.now() - began
}
