import { isIP } from 'node:net'
import { splitAuthority, type Destination } from './authority.ts'

/** Ports that a rule without one opens. */
export const WEB_PORTS: readonly number[] = [80, 443]

/** Which addresses a rule's host may resolve to. */
type Reach = 'public' | 'any'

/** Opens hosts. */
export interface HostRule {
  kind: 'host'
  /** An exact host, a suffix that begins with a dot, or `*` for every host. */
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

/** Opens an upstream by its name; `anthropic` is the model's API. */
export interface UpstreamRule {
  kind: 'upstream'
  name: string
  label: string
}

export type Rule = HostRule | UpstreamRule

/** The upstream that is the model's API. */
export const MODEL_UPSTREAM = 'anthropic'

const GITHUB_HOSTS = ['github.com', '.github.com', '.githubusercontent.com']

/** What rules are read with. */
export interface RuleContext {
  /** Whether these rules may open private addresses: their author could reach them without us. */
  isTrusted: boolean
  /** What `packages` stands for. */
  packages: readonly Destination[]
}

/** The rules that one text stands for. None for a text that is no rule: an unreadable one must open nothing. */
export function rulesOf(text: string, { isTrusted, packages }: RuleContext): Rule[] {
  const label = `allow ${text}`
  const web = (host: string): HostRule => ({ kind: 'host', host, ports: WEB_PORTS, reach: 'public', label })
  switch (text) {
    case 'none':
      return []
    case 'all':
      return [web('*')]
    case 'anthropic':
      return [{ kind: 'upstream', name: MODEL_UPSTREAM, label }]
    case 'github':
      return GITHUB_HOSTS.map(web)
    case 'packages':
      return packages.map(({ host, port }) => {
        return { kind: 'host', host, ports: [port], reach: 'any', label: `registry ${host}` }
      })
  }
  const upstream = /^upstream:([a-z][a-z0-9-]*)$/.exec(text)?.[1]
  if (upstream !== undefined) return [{ kind: 'upstream', name: upstream, label }]
  return hostRule(text, isTrusted)
}

function hostRule(text: string, isTrusted: boolean): HostRule[] {
  const isSuffix = text.startsWith('*.')
  const parts = splitAuthority(isSuffix ? text.slice(2) : text)
  if (parts === undefined) return []
  const { host, port } = parts
  const namesMachine = !isSuffix && (isIP(host) !== 0 || host === 'localhost' || host.endsWith('.localhost'))
  return [
    {
      kind: 'host',
      host: isSuffix ? `.${host}` : host,
      ports: port === undefined ? WEB_PORTS : [port],
      reach: isTrusted && namesMachine ? 'any' : 'public',
      label: `allow ${text}`,
    },
  ]
}

/** Whether a rule is about a host. */
export function matches(rule: HostRule, host: string): boolean {
  if (rule.host === '*') return true
  return rule.host.startsWith('.') ? host.endsWith(rule.host) && isIP(host) === 0 : rule.host === host
}
