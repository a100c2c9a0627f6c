import { isIP } from 'node:net'
import { canonicalAddress, isPublicAddress } from './addresses.ts'
import { splitAuthority, type Destination } from './authority.ts'

/** Ports that a rule without one opens. */
const WEB_PORTS: readonly number[] = [80, 443]

/** Which addresses a rule's host may resolve to. */
type Reach = 'public' | 'any'

interface Rule {
  /** An exact host, or a suffix that begins with a dot. */
  host: string
  ports: readonly number[]
  /**
   * `any` for the registries of this host (company mirrors have private addresses) and for trusted rules that name an IP
   * address or `localhost` itself: whoever writes those means that machine.
   */
  reach: Reach
  /** For people, e.g. `allow *.github.com`. */
  label: string
}

export interface PolicyInput {
  /** What the settings allow every machine. */
  settings: readonly string[]
  /** What this task asked for. */
  task: readonly string[]
  /** Whether the task's rules may open private addresses: its user could reach them without us. */
  taskIsTrusted: boolean
  /** Package registries this host is configured for. */
  registries: readonly Destination[]
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
  readonly #isOwnAddress: (address: string) => boolean

  constructor(input: PolicyInput) {
    this.#isOwnAddress = input.isOwnAddress
    const registries = input.registries.map((registry) => ({
      host: registry.host,
      ports: [registry.port],
      reach: 'any' as const,
      label: `registry ${registry.host}`,
    }))
    const settings = input.settings.flatMap((text) => parseRule(text, true) ?? [])
    const task = input.task.flatMap((text) => parseRule(text, input.taskIsTrusted) ?? [])
    this.#rules = [...registries, ...settings, ...task]
  }

  /** Decides by name, before anything is resolved. */
  decide({ host, port }: Destination): Decision {
    const named = this.#rules.filter((rule) => matches(rule, host))
    const rule = named.find(({ ports }) => ports.includes(port))
    if (rule !== undefined) return { allowed: true, rule: rule.label }
    const ask = WEB_PORTS.includes(port) ? host : `${host}:${port}`
    const what = named.length > 0 ? `Port ${port} of ${host}` : `Host ${host}`
    return {
      allowed: false,
      rule: 'deny by default',
      advice: `${what} is not on this task's allow-list; whoever starts the task can open it with --allow ${ask}.`,
    }
  }

  /** Decides about an address that an allowed host has resolved to. */
  decideAddress({ host, port }: Destination, address: string): Decision {
    const isOwn = this.#isOwnAddress(address)
    if (isPublicAddress(address) && !isOwn) return { allowed: true, rule: 'public address' }
    const canonical = canonicalAddress(address)
    const rule = this.#rules.find(
      (rule) => rule.reach === 'any' && rule.ports.includes(port) && (matches(rule, host) || rule.host === canonical),
    )
    if (rule !== undefined) return { allowed: true, rule: rule.label }
    return {
      allowed: false,
      rule: `deny ${isOwn ? 'own' : 'private'} address ${canonical}`,
      advice: `${host} has ${isOwn ? "this host's" : 'the private'} address ${canonical}; the settings of this server can open it by naming the address itself in network.allow.`,
    }
  }
}

function matches(rule: Rule, host: string): boolean {
  return rule.host.startsWith('.') ? host.endsWith(rule.host) && isIP(host) === 0 : rule.host === host
}

/** Undefined for a text that is no rule: an unreadable one must open nothing. */
function parseRule(text: string, trusted: boolean): Rule | undefined {
  const isSuffix = text.startsWith('*.')
  const parts = splitAuthority(isSuffix ? text.slice(2) : text)
  if (parts === undefined) return undefined
  const { host, port } = parts
  const namesMachine = !isSuffix && (isIP(host) !== 0 || host === 'localhost' || host.endsWith('.localhost'))
  return {
    host: isSuffix ? `.${host}` : host,
    ports: port === undefined ? WEB_PORTS : [port],
    reach: trusted && namesMachine ? 'any' : 'public',
    label: `allow ${text}`,
  }
}
