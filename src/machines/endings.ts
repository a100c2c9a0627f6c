import type { VivariumError } from '../contracts/errors.ts'
import type { Entry } from './entries.ts'
import type { HousedMachine } from './housed-machine.ts'
import { NOBODY } from './types.ts'

/** Removes a machine once it is lost, unless it is a task's then: the task may salvage it before, and removes it in any case. */
export function removeWhenLost({ record }: Entry, machine: HousedMachine): void {
  const remove = async () => {
    const { taskId, keepUntil } = record.info()
    if (taskId === null || keepUntil !== null) await machine.destroy()
  }
  // What can't be removed is logged where it failed, and stays in the journal.
  void machine.lost.then(remove).catch(() => {})
}

/** Machines of users outlive this orchestrator, suspended or running, unless they are to be stopped; kept ones that lie on the disk do in any case. */
export async function close(entry: Entry, closing: VivariumError, how: 'suspend' | 'leave' | 'stop'): Promise<void> {
  const { userId, state, keepUntil } = entry.record.info()
  const { machine } = entry
  if (machine === undefined || userId === NOBODY) return end(entry, closing)
  const isKept = state === 'suspended' && keepUntil !== null
  if (how === 'stop' && !isKept) return end(entry, closing)
  if (how === 'suspend' && state === 'ready') await machine.suspend().catch(() => {}) // then it runs on
  await machine.leave()
}

/** Ends a machine, or its start, with a reason for whoever uses it. */
export async function end(entry: Entry, reason: VivariumError): Promise<void> {
  entry.start.abort(reason)
  const machine = await entry.started.promise.catch(() => undefined) // its creator hears of it
  machine?.lose(reason.message, reason.code)
  await machine?.destroy()
}
