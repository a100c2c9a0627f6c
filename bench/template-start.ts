import { agents } from '../src/agents/agents.ts'
import { findTemplate, firstAnswer, prepareRestore, type BareRestore } from './bare-restore.ts'
import { readToEnd, untilIdle, type Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'
import { medianPhases, type PhaseTimes } from './phases.ts'

/** A task's machine by default. */
const SIZE = { memoryMib: 2048, vcpus: 2 }
const AT_ONCE = 8
const COMMAND = 'echo hello'
const TIMEOUT_MS = 60_000
const { shell } = agents
const START = { model: null, maxTurns: null, env: {}, credentialKind: undefined, sessionId: '', resumes: null }

/** Rows, and how long each step of a start took, in ms. */
interface TemplateStarts {
  rows: BenchRow[]
  phases: PhaseTimes
}

/**
 * Starts from the plain template. From the API call to the first output of a command at a WebSocket, beside a bare script that
 * restores the same snapshot and waits for one answer of its guest. Then eight at once, beside eight one after the other.
 */
export async function run(lab: Lab): Promise<TemplateStarts> {
  const { orchestrator, signal } = lab
  await orchestrator.client.templates.build(SIZE)
  const template = await findTemplate(SIZE)
  const [measured, floor, sameFloor] = [[], [], []] as [number[], number[], number[]]
  const phases: { name: string; ms: number }[][] = []
  for (let i = -1; i < lab.runs; i++) {
    signal.throwIfAborted()
    const bare = await bareRestore(lab, template, firstAnswer)
    const same = await bareRestore(lab, template, firstOutput)
    const start = await firstOutputOfTask(lab)
    if (i < 0) continue // the first brings the template into the page cache
    floor.push(bare)
    sameFloor.push(same)
    measured.push(start.ms)
    phases.push(start.phases)
  }
  const [together, single] = [[], []] as [number[], number[]]
  for (let i = 0; i < Math.ceil(lab.runs / 3); i++) {
    signal.throwIfAborted()
    single.push(await machines(lab, 1))
    together.push(await machines(lab, AT_ONCE))
  }
  const name = 'template start: API call → first output'
  const eight = `${AT_ONCE} starts at once, until the last is ready`
  return {
    rows: [
      row({
        name,
        unit: 'ms',
        measured,
        floor: sameFloor,
        floorIs: "a bare script restores the same snapshot, one answer: the command's",
      }),
      row({
        name,
        unit: 'ms',
        measured,
        floor,
        floorIs: "a bare script restores the same snapshot, one answer: the agent's hello",
      }),
      row({
        name: eight,
        unit: 'ms',
        measured: together,
        floor: single,
        floorIs: `${AT_ONCE} starts one after the other`,
      }),
    ],
    phases: medianPhases(phases),
  }
}

/** From QEMU's start to the guest's answer, in ms. */
async function bareRestore(
  { host }: Lab,
  template: string,
  answer: (restore: BareRestore) => Promise<void>,
): Promise<number> {
  await using restore = await prepareRestore(host, template, SIZE)
  const began = performance.now()
  await restore.start()
  await answer(restore)
  return performance.now() - began
}

/** The agent's hello, and then the output of the command that a task is measured with, started in the same way. */
async function firstOutput(restore: BareRestore): Promise<void> {
  await firstAnswer(restore)
  const { argv, env, cwd, user } = shell.spec(START)
  const stdin = shell.input({ ...START, prompt: COMMAND })
  const { exit } = await restore.link.exec({ argv, env, cwd, user }, { timeoutMs: TIMEOUT_MS, stdin })
  if (exit.code !== 0) throw new Error('The command failed in the bare machine.')
}

async function firstOutputOfTask({ orchestrator }: Lab) {
  await untilIdle(orchestrator)
  const began = performance.now()
  const { id } = await orchestrator.client.tasks.submit({ prompt: COMMAND, agent: 'shell' })
  let ms: number | undefined
  const task = await readToEnd(orchestrator, id, (event) => {
    if (event.type === 'raw') ms ??= performance.now() - began
  })
  if (ms === undefined) throw new Error(`Task ${id} printed nothing.`)
  // What comes after the first output is no part of a start.
  const after = task.phases.findIndex(({ name }) => name === 'agent run')
  const steps = task.phases.slice(0, after)
  const known = steps.reduce((sum, step) => sum + step.ms, 0)
  return { ms, phases: [...steps, { name: 'on the way', ms: ms - known }] }
}

/** Starts eight machines, so many at a time, and returns how long that took, in ms. Rejects when one does not start. */
async function machines({ orchestrator }: Lab, atOnce: number): Promise<number> {
  await untilIdle(orchestrator)
  const { vms } = orchestrator.client
  const ids: string[] = []
  const began = performance.now()
  for (let i = 0; i < AT_ONCE; i += atOnce) {
    const started = await Promise.all(Array.from({ length: atOnce }, () => vms.create(SIZE)))
    ids.push(...started.map(({ id }) => id))
  }
  const ms = performance.now() - began
  await Promise.all(ids.map((id) => vms.destroy(id)))
  return ms
}
