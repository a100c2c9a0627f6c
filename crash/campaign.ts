import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdtempSync, openSync, closeSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { MessagesRequest } from '../scripted-model/request.ts'
import type { ScriptInput } from '../scripted-model/script.ts'
import { startScriptedModel, type ScriptedModel } from '../scripted-model/server.ts'
import { loadConfig } from '../src/config/load.ts'
import { findEndpoint } from '../src/server/endpoint.ts'
import { CRASH_POINTS, type CrashPoint } from '../src/telemetry/crash-points.ts'
import { freePort } from '../test/support/free-port.ts'
import {
  checkRunning,
  checkStopped,
  endings,
  processesAt,
  type Expectation,
  type ModelAnswer,
  type Premises,
} from './checker.ts'
import { Load } from './load.ts'
import { MACHINE_POINTS } from './machine-steps.ts'
import { seeded, type Random } from './random.ts'

const ORCHESTRATOR = fileURLToPath(new URL('orchestrator.ts', import.meta.url))

/** Points that machines which are processes come by, too. */
const POINTS = CRASH_POINTS.filter((point) => !MACHINE_POINTS.some((other) => other === point))

/** For an orchestrator that is up to come by the point at which it is to be killed; after that it is killed wherever it is. */
const POINT_MS = 8000
/** On a host that is busy with much else. */
const START_MS = 120_000
/** For the last tasks to end once nobody kills any more. */
const FINISH_MS = 180_000
const STOP_MS = 60_000
const TASKS_AT_ONCE = 8

const SCRIPT: ScriptInput = {
  conversations: [
    { when: 'short answer', turns: [{ blocks: [{ type: 'text', text: 'Yes.' }], usage: { outputTokens: 5 } }] },
    {
      when: 'long answer',
      turns: [
        {
          blocks: [{ type: 'text', text: 'Well, '.repeat(200) }],
          usage: { inputTokens: 77, outputTokens: 400 },
          pieceDelayMs: 30,
        },
      ],
    },
  ],
}

export interface CampaignOptions {
  seed: number
  kills: number
  /** Is told what goes on, a line at a time. */
  say(line: string): void
}

export interface CampaignReport {
  /** What is wrong, a sentence each. */
  violations: string[]
  /** How often an orchestrator was killed at each point; `anywhere` by the clock. */
  kills: Record<string, number>
  /** How tasks ended. */
  endings: Record<string, number>
  accepted: number
  /** Data folder, with the log of all orchestrators in `orchestrators.log`. Kept where there are violations. */
  home: string
}

/** When an orchestrator is to be killed. */
type Plan = { at: CrashPoint; pass: number } | { afterMs: number; since: 'its start' | 'it is up' }

/**
 * Kills an orchestrator under load again and again, at points and moments that the seed determines, starts it again each time, and has the
 * checker look at what there is: after each kill, and in the end.
 */
export async function campaign({ seed, kills, say }: CampaignOptions): Promise<CampaignReport> {
  await using stack = new AsyncDisposableStack()
  const home = mkdtempSync(join(tmpdir(), 'vivarium-crash-'))
  const model = stack.use(await startScriptedModel({ script: SCRIPT }))
  const env = await environment(home, model)
  const premises: Premises = { home, runDir: loadConfig({}, undefined, env).config.runDir }
  const load = new Load(home, seed)
  const random = seeded(seed)
  const killed: Record<string, number> = {}
  const violations: string[] = []
  const judge = (when: string, found: string[]) => {
    for (const violation of found) {
      if (violations.some((known) => known.endsWith(violation))) continue
      violations.push(`${when}: ${violation}`)
      say(`  ✗ ${violation}`)
    }
  }
  let orchestrator = startOrchestrator(env, home)
  // However it ends, nothing of it stays: the orchestrator first, which would start more.
  stack.defer(() => {
    orchestrator.kill('SIGKILL')
    for (const { pid } of processesAt(premises)) kill(pid)
  })
  await untilAnnounced(orchestrator, home)
  await stopInOrder(orchestrator) // there is a database now
  load.start(TASKS_AT_ONCE)
  for (let n = 1; n <= kills; n += 1) {
    const plan = choose(random, n)
    orchestrator = startOrchestrator(env, home, plan)
    const where = await untilKilled(orchestrator, plan, home)
    if (where === undefined) {
      judge(`kill ${n}`, [
        `An orchestrator ended by itself, with ${orchestrator.exitCode}, instead of at ${inWords(plan)}.`,
      ])
      break
    }
    killed[where] = (killed[where] ?? 0) + 1
    say(`${n}: killed at ${where === 'anywhere' ? inWords(plan) : where}; ${load.accepted.length} tasks accepted`)
    judge(`after kill ${n} (${where})`, checkRunning(premises, expectations(load)))
  }
  orchestrator = startOrchestrator(env, home)
  await untilAnnounced(orchestrator, home)
  await load.finish(FINISH_MS).catch((error: Error) => judge('at the end', [error.message]))
  await stopInOrder(orchestrator)
  // What belongs to nobody is removed at the next start.
  orchestrator = startOrchestrator(env, home)
  await untilAnnounced(orchestrator, home)
  await stopInOrder(orchestrator)
  judge('at the end', [...load.violations, ...checkStopped(premises, expectations(load), answersOf(model))])
  const report = { violations, kills: killed, endings: endings(premises), accepted: load.accepted.length, home }
  if (violations.length === 0)
    for (const folder of [home, premises.runDir]) rmSync(folder, { recursive: true, force: true })
  return report
}

async function environment(home: string, model: ScriptedModel): Promise<Record<string, string>> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    NO_COLOR: '1',
    // Most of a start is the reading of sources.
    NODE_COMPILE_CACHE: join(home, 'cache', 'node'),
    ANTHROPIC_API_KEY: 'sk-ant-crash-test',
    VIVARIUM_HOME: home,
    VIVARIUM_CACHE: join(home, 'cache'),
    VIVARIUM_LISTEN: `127.0.0.1:${await freePort()}`,
    VIVARIUM_ANTHROPIC_UPSTREAM: model.url,
    VIVARIUM_MACHINES_MAX_MACHINES: '6',
    VIVARIUM_READY_MACHINES: '0',
    VIVARIUM_READY_CLAUDE: '0',
    VIVARIUM_LOG: 'debug',
  }
}

/** Every point in turn, and every third time a moment: while it starts, or soon after. */
function choose(random: Random, n: number): Plan {
  if (n % 3 === 0) return { afterMs: random.int(50, 3000), since: random.pick(['its start', 'it is up', 'it is up']) }
  const at = POINTS[(n - Math.floor(n / 3) - 1) % POINTS.length]
  if (at === undefined) throw new RangeError('there are no points')
  return { at, pass: random.pick([1, 1, 2, 3, 5]) * (at === 'events stored' ? 7 : 1) }
}

function inWords(plan: Plan): string {
  return 'at' in plan ? `"${plan.at}", pass ${plan.pass}` : `${plan.afterMs} ms after ${plan.since}`
}

function startOrchestrator(env: Record<string, string>, home: string, plan?: Plan): ChildProcess {
  const log = join(home, 'orchestrators.log')
  appendFileSync(log, `--- ${plan === undefined ? 'not to be killed' : `to be killed at ${inWords(plan)}`}\n`)
  const crash = plan !== undefined && 'at' in plan ? { VIVARIUM_TEST_CRASH_AT: `${plan.at}:${plan.pass}` } : {}
  const fd = openSync(log, 'a')
  const child = spawn(process.execPath, [ORCHESTRATOR], { env: { ...env, ...crash }, stdio: ['ignore', fd, fd] })
  closeSync(fd)
  return child
}

/** Kills it as planned; resolves with the point, or `anywhere` by the clock. Undefined where it ended by itself before. */
async function untilKilled(child: ChildProcess, plan: Plan, home: string): Promise<string | undefined> {
  const dead = once(child, 'exit')
  const isFromStart = 'since' in plan && plan.since === 'its start'
  // One that does not come up is killed all the same, and its successor has to.
  if (!isFromStart) await Promise.race([dead, untilAnnounced(child, home).catch(() => {})])
  const timer = setTimeout(() => child.kill('SIGKILL'), 'at' in plan ? POINT_MS : plan.afterMs)
  await dead
  clearTimeout(timer)
  if (child.signalCode !== 'SIGKILL') return undefined
  return 'at' in plan && !child.killed ? plan.at : 'anywhere'
}

async function untilAnnounced(child: ChildProcess, home: string): Promise<void> {
  for (const deadline = Date.now() + START_MS; Date.now() < deadline; await sleep(50)) {
    if (findEndpoint(home)?.pid === child.pid) return
    if (child.exitCode !== null || child.signalCode !== null) break
  }
  throw new Error(`The orchestrator did not start: see ${join(home, 'orchestrators.log')}.`)
}

async function stopInOrder(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await ended
  clearTimeout(timer)
  if (child.exitCode !== 0)
    throw new Error(`An orchestrator that was told to stop ended with ${child.exitCode ?? child.signalCode}.`)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended with the one before.
  }
}

function expectations(load: Load): Expectation[] {
  return load.accepted.map(({ id, work }) => ({ id, ...work }))
}

/** What the model has been asked, by the name of the task that stands in each question. */
function answersOf(model: ScriptedModel): ModelAnswer[] {
  return model.requests.flatMap(({ body, answer }) => {
    if (answer === undefined) return []
    const text = JSON.stringify(MessagesRequest.parse(body).messages)
    const key = /answer for (client \d+, task \d+),/.exec(text)?.[1] ?? text
    return [{ key, isWhole: answer.isWhole, ...answer.usage }]
  })
}
