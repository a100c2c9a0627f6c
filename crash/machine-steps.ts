import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadConfig } from '../src/config/load.ts'
import type { CrashPoint } from '../src/telemetry/crash-points.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from '../test/support/orchestrator.ts'
import type { Random } from './random.ts'

/** Small, so that a template takes little time to build. */
const SIZE = { memoryMib: 512, vcpus: 1 }
const STEP_MS = 300_000
const DONE = 'All is written.'
const TURNS = 6

/** Points that only machines come by which can be saved. */
export const MACHINE_POINTS = [
  'template saved',
  'template placed',
  'suspend saved',
  'suspend recorded',
  'resume journaled',
  'resume taken',
] as const satisfies CrashPoint[]

export interface MachineStepsOptions {
  random: Random
  say(line: string): void
}

/**
 * Kills an orchestrator with real machines at each point where a template is built and a machine suspended and resumed, and several times in
 * the middle of a run of Claude Code, which has to come to its end all the same. Resolves with what is wrong, a sentence each.
 */
export async function machineSteps({ random, say }: MachineStepsOptions): Promise<string[]> {
  const violations: string[] = []
  // Images are shared with everybody; templates are these steps' own.
  const cacheDir = mkdtempSync(join(tmpdir(), 'vivarium-crash-cache-'))
  try {
    const shared = loadConfig().config.cacheDir
    for (const name of ['images', 'probes', 'scratch']) {
      mkdirSync(join(shared, name), { recursive: true })
      symlinkSync(join(shared, name), join(cacheDir, name))
    }
    for (const point of MACHINE_POINTS) {
      say(`machines: ${point}`)
      const found = await atPoint(point, cacheDir).catch((error: Error) => [error.message])
      violations.push(...found.map((violation) => `${point}: ${violation}`))
    }
    say('machines: Claude Code at work')
    violations.push(...(await claudeAtWork(cacheDir, random).catch((error: Error) => [error.message])))
  } finally {
    rmSync(cacheDir, { recursive: true })
  }
  return violations
}

async function atPoint(point: CrashPoint, cacheDir: string): Promise<string[]> {
  const env = { VIVARIUM_CACHE: cacheDir, VIVARIUM_TEST_CRASH_AT: point }
  await using orchestrator = await startOrchestrator({ script: { conversations: [] }, env })
  const dead = once(orchestrator.process, 'exit', { signal: AbortSignal.timeout(STEP_MS) })
  const lost = (point.startsWith('template') ? build(orchestrator) : suspendAndResume(orchestrator)).catch(() => {})
  await dead
  await lost
  if (orchestrator.process.signalCode !== 'SIGKILL') return ['The orchestrator was not killed there.']
  await orchestrator.restart('SIGKILL', { VIVARIUM_TEST_CRASH_AT: '' })
  // Awaited here: the orchestrator is stopped when this returns.
  return point.startsWith('template') ? await afterBuild(orchestrator, cacheDir) : await afterSuspension(orchestrator)
}

async function build({ client }: TestOrchestrator): Promise<void> {
  await client.templates.build({ ...SIZE, rebuild: true })
}

/** No part of a template is left, and machines start. */
async function afterBuild(orchestrator: TestOrchestrator, cacheDir: string): Promise<string[]> {
  const parts = namesIn(join(cacheDir, 'templates')).filter((name) => name.startsWith('.'))
  const found = [...parts, ...remains(orchestrator)].map((name) => `${name} is left.`)
  const { vms } = orchestrator.client
  const { id } = await vms.create(SIZE)
  const { stdout } = await vms.exec(id, { command: 'echo works' })
  if (stdout !== 'works\n') found.push('The next machine does not work.')
  await vms.destroy(id)
  return found
}

async function suspendAndResume({ client }: TestOrchestrator): Promise<void> {
  const prompt = 'echo kept > note'
  const { id } = await client.tasks.submit({ prompt, agent: 'shell', ...SIZE, keepVmSeconds: 3600 })
  for await (const _ of client.tasks.follow(id));
  const { vmId } = await client.tasks.get(id)
  await client.vms.suspend(vmId ?? '')
  await client.vms.resume(vmId ?? '')
}

/** The kept machine is there whole, or gone with all that was made for it. */
async function afterSuspension(orchestrator: TestOrchestrator): Promise<string[]> {
  const { vms } = orchestrator.client
  const found: string[] = []
  for (const { id } of await settledMachines(orchestrator)) {
    const { stdout } = await vms.exec(id, { command: 'cat note' })
    if (stdout !== 'kept\n') found.push(`The kept machine has ${JSON.stringify(stdout)} in its file.`)
    await vms.destroy(id)
  }
  return [...found, ...remains(orchestrator).map((name) => `${name} is left.`)]
}

/** Once none is on its way to another state. */
async function settledMachines({ client }: TestOrchestrator) {
  for (const deadline = Date.now() + STEP_MS; Date.now() < deadline; await sleep(200)) {
    const machines = await client.vms.list()
    if (machines.every(({ state }) => state === 'ready' || state === 'suspended')) return machines
  }
  throw new Error('A machine stays between two states.')
}

/** The run of an agent whose orchestrator is killed again and again: every answer it got counts once, and so does every line it wrote. */
async function claudeAtWork(cacheDir: string, random: Random): Promise<string[]> {
  const command = (n: number) => `echo "turn ${n}" >> turns && sleep 2`
  const turns = Array.from({ length: TURNS }, (_, n) => ({
    blocks: [{ type: 'tool_use' as const, name: 'Bash', input: { command: command(n + 1) } }],
    usage: { outputTokens: 10 + n },
  }))
  const script = {
    conversations: [{ when: '', turns: [...turns, { blocks: [{ type: 'text' as const, text: DONE }] }] }],
  }
  await using orchestrator = await startOrchestrator({ script, env: { VIVARIUM_CACHE: cacheDir } })
  const { id } = await orchestrator.client.tasks.submit({ prompt: 'Write the turns.', timeoutSeconds: 3600 })
  for (let kill = 0; kill < 4; kill += 1) {
    await sleep(random.int(1000, 15_000))
    await orchestrator.restart('SIGKILL')
  }
  for await (const _ of orchestrator.client.tasks.follow(id));
  const task = await orchestrator.client.tasks.get(id)
  if (task.status !== 'succeeded') return [`Claude Code ended ${task.status}: ${task.error?.message ?? ''}`]
  const { body } = await orchestrator.client.tasks.file(id, 'turns')
  const written = Buffer.concat(await body.toArray()).toString()
  const expected = turns.map((_, n) => `turn ${n + 1}\n`).join('')
  return [
    ...(written === expected ? [] : [`Claude Code wrote ${JSON.stringify(written)}.`]),
    ...(task.result === DONE ? [] : [`Its result is ${JSON.stringify(task.result)}.`]),
    ...remains(orchestrator).map((name) => `${name} is left.`),
  ]
}

/** What there is of machines: processes, folders of sockets and disks. */
function remains({ home, runDir }: TestOrchestrator): string[] {
  const processes = processesNaming(runDir).map((pid) => `process ${pid}`)
  return [...namesIn(runDir), ...namesIn(join(home, 'machines')), ...processes]
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}
