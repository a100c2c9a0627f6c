import { VivariumError } from '../contracts/errors.ts'
import type { GuestLink } from '../link/types.ts'
import { lastLines } from './console-text.ts'
import type { Vmm } from './types.ts'

/** From the guest's first instruction to its agent's hello, with hardware virtualisation. */
const BOOT_DEADLINE_MS = 20_000
const CONSOLE_LINES = 5

/**
 * Waits until the guest's agent has answered. Rejects with `boot_failed`, saying what happened instead and how the
 * guest's console ended, or with the reason of `signal`.
 */
export async function waitForAgent(options: {
  vmm: Vmm
  link: GuestLink
  machineId: string
  timeScale: number
  signal: AbortSignal
}): Promise<void> {
  const { vmm, link, signal } = options
  const hostname = options.machineId.replace('_', '-')
  const deadlineMs = BOOT_DEADLINE_MS * options.timeScale
  signal.throwIfAborted()
  const gaveUp = new AbortController()
  void vmm.exited.then((how) => gaveUp.abort(how))
  void link.lost.then((how) => gaveUp.abort(how))
  const timer = setTimeout(() => gaveUp.abort(`its agent did not answer within ${deadlineMs / 1000} s`), deadlineMs)
  try {
    await link.hello({ hostname }, AbortSignal.any([signal, gaveUp.signal]))
  } catch (cause) {
    signal.throwIfAborted()
    const why = gaveUp.signal.aborted ? String(gaveUp.signal.reason) : (cause as Error).message
    const console = lastLines(await vmm.consoleTail(), CONSOLE_LINES)
    const ending = console === '' ? 'Its console is empty.' : `Its console ends with: ${console}`
    throw new VivariumError('boot_failed', `The machine did not start: ${why.replace(/\.$/, '')}. ${ending}`, { cause })
  } finally {
    clearTimeout(timer)
  }
}
