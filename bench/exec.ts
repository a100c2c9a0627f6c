import { setTimeout as sleep } from 'node:timers/promises'
import { findTemplate, firstAnswer, prepareRestore, type BareRestore } from './bare-restore.ts'
import { startBareShell } from './bare-shell.ts'
import type { Lab } from './lab.ts'
import { row, type BenchRow } from './report.ts'

/** A task's machine by default; both machines with an agent start from its template. */
const SIZE = { memoryMib: 2048, vcpus: 2 }
const TIMEOUT_MS = 60_000
/** By its path: a shell would take `true` for its own. */
const COMMAND = '/bin/true'
const WARM_UP = 5
const RUNS = 30
/** Between two commands, so that each meets an idle machine. */
const PAUSE_MS = 150

/**
 * A command in an idle machine, there and back: over REST; over the link alone; and by a shell at the machine's port, which is
 * the floor: one line over the same kind of port, fork, exec, one byte back; once as it comes, and once with programs at fixed
 * addresses, where the agent starts them when software emulates the machine. Four machines, used in turn.
 */
export async function run({ orchestrator, host, signal }: Lab): Promise<BenchRow[]> {
  await using stack = new AsyncDisposableStack()
  const { client } = orchestrator
  await client.templates.build(SIZE)
  const { id } = await client.vms.create({}, { signal })
  stack.defer(() => client.vms.destroy(id))
  const agent = stack.use(await prepareRestore(host, await findTemplate(SIZE), SIZE))
  await agent.start()
  await firstAnswer(agent)
  const shell = stack.use(await startBareShell(host))
  const fixedShell = stack.use(await startBareShell(host, 'fixed'))
  const ways = {
    rest: () => overRest(orchestrator, id),
    link: () => overLink(agent),
    shell: () => shell.run(COMMAND).then(() => undefined),
    fixedShell: () => fixedShell.run(COMMAND).then(() => undefined),
  }
  const times: Record<keyof typeof ways, number[]> = { rest: [], link: [], shell: [], fixedShell: [] }
  for (let i = -WARM_UP; i < RUNS; i++) {
    for (const name of ['rest', 'link', 'shell', 'fixedShell'] as const) {
      signal.throwIfAborted()
      const ms = await timed(ways[name])
      if (i >= 0) times[name].push(ms)
      await sleep(PAUSE_MS)
    }
  }
  const against = (floor: number[], floorIs: string) => [
    row({ name: 'exec round trip, REST', unit: 'ms', measured: times.rest, floor, floorIs }),
    row({ name: 'exec round trip, link alone', unit: 'ms', measured: times.link, floor, floorIs }),
  ]
  return [
    ...against(times.shell, 'a shell at the port of an idle machine runs it'),
    ...against(times.fixedShell, 'the same shell, programs at fixed addresses as the agent has them'),
  ]
}

async function overLink({ link }: BareRestore): Promise<void> {
  const spec = { argv: [COMMAND], env: {}, cwd: '/workspace', user: 'agent' as const }
  const { exit } = await link.exec(spec, { timeoutMs: TIMEOUT_MS })
  if (exit.code !== 0) throw new Error('exec over the link failed')
}

/** One request, one JSON answer. */
async function overRest({ url, key }: Lab['orchestrator'], id: string): Promise<void> {
  const response = await fetch(`${url}/api/v1/vms/${id}/exec`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ argv: [COMMAND] }),
  })
  const answer = await response.text()
  if (!response.ok || !answer.includes('"exitCode":0')) throw new Error(`exec over REST failed: ${answer}`)
}

async function timed(action: () => Promise<void>): Promise<number> {
  const began = performance.now()
  await action()
  return performance.now() - began
}
