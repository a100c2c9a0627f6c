import { startBareAgent } from './bare-agent.ts'
import { startBareShell } from './bare-shell.ts'
import { readToEnd, untilIdle, type Lab } from './lab.ts'
import { median, row, type BenchRow } from './report.ts'

/** Rows, and how long each step of a start took, in ms. */
interface ColdStarts {
  rows: BenchRow[]
  phases: { name: string; ms: number }[]
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
  const phases = new Map<string, number[]>()
  for (let i = 0; i < lab.runs; i++) {
    lab.signal.throwIfAborted()
    shell.push(await timed(() => firstOutputOfShell(lab)))
    agent.push(await timed(() => firstOutputOfAgent(lab)))
    const start = await firstOutputOfTask(lab)
    measured.push(start.ms)
    for (const { name, ms } of start.phases) phases.set(name, [...(phases.get(name) ?? []), ms])
  }
  const name = 'cold start: API call → first output'
  return {
    rows: [
      row({ name, unit: 'ms', measured, floor: shell, floorIs: 'same machine, a shell instead of the agent' }),
      row({ name, unit: 'ms', measured, floor: agent, floorIs: 'same machine with its agent, no orchestrator' }),
    ],
    phases: [...phases].map(([phase, values]) => ({ name: phase, ms: median(values) })),
  }
}

async function firstOutputOfTask({ orchestrator }: Lab): Promise<{ ms: number; phases: ColdStarts['phases'] }> {
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
