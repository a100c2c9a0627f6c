import { setTimeout as sleep } from 'node:timers/promises'
import { noTemplates } from '../../src/machines/templates/none.ts'
import type { Templates } from '../../src/machines/types.ts'
import { FakeGuest, type FakeProcess } from '../../src/tasks/testing/fake-guest.ts'
import { FakeMachines } from '../../src/tasks/testing/fake-machines.ts'

/** What a simulated agent does: it is told by the task's prompt, as JSON. */
export interface Play {
  lines: number
  /** Milliseconds from one line to the next; 0 prints all at once. */
  everyMs: number
  /** Least length of a line. */
  bytes: number
}

/** Machines without guests: each task's agent prints numbered lines, each with the moment at which it was printed. */
export class SimulatedMachines extends FakeMachines {
  override guest = () => {
    const guest = new FakeGuest()
    guest.play = play
    return guest
  }

  override get templates(): Templates {
    return noTemplates
  }
}

async function play(process: FakeProcess): Promise<void> {
  const { lines, everyMs, bytes } = JSON.parse(await process.stdin.promise) as Play
  // Not all at the same moment.
  if (everyMs > 0) await sleep(Math.random() * everyMs)
  for (let n = 1; n <= lines && !process.hasExited; n += 1) {
    process.print(`${`${n} ${now()}`.padEnd(bytes)}\n`)
    if (everyMs > 0) await sleep(everyMs)
  }
  process.end()
}

/** Milliseconds on a clock that all processes of this host share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
