import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Lab } from './lab.ts'
import { startOrchestrator, type TestOrchestrator } from '../test/support/orchestrator.ts'

/** The findings as one paragraph. */
export function inWords({ restoredMib, waitingMib, residentMib }: PrivateMemory): string {
  const mib = (value: number) => `${Math.round(value)} MiB`
  return `Private memory: ${mib(restoredMib)} of an idle machine of 1 GiB restored from a template; ${mib(waitingMib)} with Claude Code waiting in one of 2 GiB (${mib(residentMib)} resident, shared pages included).`
}

const IDLE_MS = 3000
const DEADLINE_MS = 300_000

/** Private memory of machines that do nothing, in MiB: what each one more of them costs this host. */
export interface PrivateMemory {
  /** Restored from a template of 1 GiB, RAM mapped. */
  restoredMib: number
  /** Restored from a template of 2 GiB, with Claude Code waiting for its prompt. */
  waitingMib: number
  /** A guest's whole RAM that is in memory, what is shared with others included; of the waiting one. */
  residentMib: number
}

/** Measures one machine of each kind, some seconds after it came to rest. */
export async function run({ signal }: Lab): Promise<PrivateMemory> {
  await using orchestrator = await startOrchestrator({
    script: { conversations: [] },
    env: { VIVARIUM_READY_CLAUDE: '1' },
  })
  const { vms, templates } = orchestrator.client
  const size = { memoryMib: 1024, vcpus: 2 }
  await templates.build(size, { signal })
  const { id } = await vms.create(size)
  await sleep(IDLE_MS)
  const restored = memoryOf(id)
  await vms.destroy(id)
  const waiting = memoryOf(await waitingMachine(orchestrator))
  return { restoredMib: restored.privateMib, waitingMib: waiting.privateMib, residentMib: waiting.residentMib }
}

/** The id of the machine in the pool, once an agent waits in it. */
async function waitingMachine({ url, key, runDir }: TestOrchestrator): Promise<string> {
  const deadline = AbortSignal.timeout(DEADLINE_MS)
  const headers = { authorization: `Bearer ${key}` }
  while (!/^vivarium_ready_agents 1$/m.test(await (await fetch(`${url}/metrics`, { headers })).text())) {
    deadline.throwIfAborted()
    await sleep(500)
  }
  await sleep(IDLE_MS)
  const id = readdirSync(runDir).find((name) => name.startsWith('vm_'))
  if (id === undefined) throw new Error('The ready machine is gone.')
  return id
}

/** From /proc/PID/smaps_rollup of the machine's QEMU. */
function memoryOf(id: string): { privateMib: number; residentMib: number } {
  const pid = readdirSync('/proc').find((name) => /^\d+$/.test(name) && isQemuOf(name, id))
  if (pid === undefined) throw new Error(`Machine ${id} has no QEMU.`)
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0)
  // Not Private_Clean: a page of the template's file that only one machine has mapped yet belongs to the page cache all the same.
  return { privateMib: kib('Private_Dirty') / 1024, residentMib: kib('Rss') / 1024 }
}

function isQemuOf(pid: string, id: string): boolean {
  try {
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
    return (argv[0] ?? '').includes('qemu-system') && argv.includes(`vivarium-${id}`)
  } catch {
    return false // it ended meanwhile
  }
}
