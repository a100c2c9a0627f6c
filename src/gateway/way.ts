import { parseAuthority, type Destination } from './authority.ts'
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
  /** Counted apart, so that a flood of refused attempts does not hide where data went. */
  readonly #reported = { allowed: 0, denied: 0 }

  constructor(policy: Policy, resolve: Resolve, report: ((decision: EgressDecision) => void) | undefined) {
    this.policy = policy
    this.resolve = resolve
    this.#report = report
  }

  /** Reports a decision, until there have been so many that a guest seems to make them for their own sake. */
  decided(decision: EgressDecision): void {
    const { allowed } = decision
    const kind = allowed ? 'allowed' : 'denied'
    this.#reported[kind] += 1
    if (this.#reported[kind] <= MAX_DECISIONS) this.#report?.(decision)
    if (this.#reported[kind] === MAX_DECISIONS)
      this.#report?.({ host: '', port: 0, allowed, rule: `further ${kind} requests are not reported` })
  }

  /** Reports a request that was refused whatever the policy says of its destination, which may be no readable one. */
  refused(authority: string, rule: string): void {
    const destination = parseAuthority(authority, 80) ?? { host: authority.slice(0, MAX_HOST_CHARS), port: 0 }
    this.decided({ ...destination, allowed: false, rule })
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
