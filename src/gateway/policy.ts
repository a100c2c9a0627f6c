import type { RouteRule } from '../contracts/network.ts'
import { canonicalAddress, isPublicAddress } from './addresses.ts'
import type { Destination } from './authority.ts'
import { matches, rulesOf, WEB_PORTS, type HostRule, type Rule } from './rules.ts'

/** The rules of one level: of all machines, of a user, of a task. */
export interface Level {
  /** Rules as people write them; `none` among them drops what broader levels allow. */
  allow: readonly string[]
  /** Of what an upstream takes anyway, only this, by its name. */
  upstreams: Readonly<Record<string, readonly RouteRule[]>>
  /** Whether its rules may open private addresses: who wrote them could reach those without us. */
  isTrusted: boolean
}

export interface PolicyInput {
  /** From the broadest to the narrowest. */
  levels: readonly Level[]
  /** Package registries this host is configured for: what `packages` stands for. */
  packages: readonly Destination[]
  /** Whether an address is this host's own. */
  isOwnAddress: (address: string) => boolean
}

export interface Decision {
  allowed: boolean
  /** The rule that decided. */
  rule: string
  /** For the agent, when refused: what it can do about it. */
  advice?: string
}

/** What one machine may reach: nothing, but for rules that name it. */
export class Policy {
  readonly #rules: Rule[]
  readonly #hosts: HostRule[]
  readonly #levels: readonly Level[]
  readonly #isOwnAddress: (address: string) => boolean

  constructor({ levels, packages, isOwnAddress }: PolicyInput) {
    this.#isOwnAddress = isOwnAddress
    this.#levels = levels
    const broadest = Math.max(
      0,
      levels.findLastIndex(({ allow }) => allow.includes('none')),
    )
    const counting = levels.slice(broadest)
    this.#rules = counting.flatMap(({ allow, isTrusted }) =>
      allow.flatMap((text) => rulesOf(text, { isTrusted, packages })),
    )
    this.#hosts = this.#rules.filter((rule) => rule.kind === 'host')
  }

  /** Decides by name, before anything is resolved. */
  decide({ host, port }: Destination): Decision {
    const named = this.#hosts.filter((rule) => matches(rule, host))
    const rule = named.find(({ ports }) => ports.includes(port))
    if (rule !== undefined) return { allowed: true, rule: rule.label }
    const ask = WEB_PORTS.includes(port) ? host : `${host}:${port}`
    return denied(named.length > 0 ? `Port ${port} of ${host}` : `Host ${host}`, ask)
  }

  /** Decides about an address that an allowed host has resolved to. */
  decideAddress({ host, port }: Destination, address: string): Decision {
    const isOwn = this.#isOwnAddress(address)
    if (isPublicAddress(address) && !isOwn) return { allowed: true, rule: 'public address' }
    const canonical = canonicalAddress(address)
    const rule = this.#hosts.find(
      (rule) => rule.reach === 'any' && rule.ports.includes(port) && (matches(rule, host) || rule.host === canonical),
    )
    if (rule !== undefined) return { allowed: true, rule: rule.label }
    return {
      allowed: false,
      rule: `deny ${isOwn ? 'own' : 'private'} address ${canonical}`,
      advice: `${host} has ${isOwn ? "this host's" : 'the private'} address ${canonical}; the settings of this server can open it by naming the address itself in network.allow.`,
    }
  }

  /** Decides whether an upstream may be asked at all: by a rule that names it, or one that opens the host it leads to. */
  decideUpstream(name: string, leadsTo?: Destination): Decision {
    const isNamed = this.#rules.some((rule) => rule.kind === 'upstream' && rule.name === name)
    if (isNamed || (leadsTo !== undefined && this.decide(leadsTo).allowed))
      return { allowed: true, rule: `upstream ${name}` }
    return denied(`The upstream ${name}`, name === 'anthropic' ? name : `upstream:${name}`)
  }

  /** Requests that an upstream takes of this machine: each list must have one that matches. */
  routesOf(name: string): (readonly RouteRule[])[] {
    return this.#levels.flatMap(({ upstreams }) => (Object.hasOwn(upstreams, name) ? [upstreams[name] ?? []] : []))
  }
}

function denied(what: string, ask: string): Decision {
  return {
    allowed: false,
    rule: 'deny by default',
    advice: `${what} is not on this task's allow-list; whoever starts the task can open it with --allow ${ask}.`,
  }
}
