import type { Destination } from './authority.ts'
import type { Dialled, Resolve } from './dial.ts'
import { MAX_DECISIONS } from './limits.ts'
import type { Policy } from './policy.ts'
import type { EgressDecision } from './types.ts'

/** What is no host name may be of any length. */
const MAX_HOST_CHARS = 253

/** One machine's way to hosts on the network: its policy, its look-ups, its record of decisions. */
export class Way {
  readonly policy: Policy
  readonly resolve: Resolve
  readonly #report: ((decision: EgressDecision) => void) | undefined
  #reported = 0

  constructor(policy: Policy, resolve: Resolve, report: ((decision: EgressDecision) => void) | undefined) {
    this.policy = policy
    this.resolve = resolve
    this.#report = report
  }

  /** Reports a decision, until there have been so many that a guest seems to make them for their own sake. */
  decided(decision: EgressDecision): void {
    this.#reported += 1
    if (this.#reported <= MAX_DECISIONS) this.#report?.(decision)
    if (this.#reported === MAX_DECISIONS)
      this.#report?.({ host: '', port: 0, allowed: false, rule: 'further decisions are not reported' })
  }

  /** Reports a destination that could not be read. */
  unreadable(authority: string): void {
    this.decided({ host: authority.slice(0, MAX_HOST_CHARS), port: 0, allowed: false, rule: 'unreadable destination' })
  }

  /** Reports why there is no connection; returns status and sentence for the guest. */
  refusal(destination: Destination, dialled: Exclude<Dialled, { kind: 'connected' }>): [number, string] {
    if (dialled.kind === 'failed') {
      this.decided({ ...destination, allowed: true, rule: dialled.rule, bytesOut: 0, bytesIn: 0 })
      return [502, dialled.message]
    }
    this.decided({ ...destination, allowed: false, rule: dialled.decision.rule })
    return [403, dialled.decision.advice ?? dialled.decision.rule]
  }
}
