import type { RouteRule } from '../../contracts/network.ts'
import type { Destination } from '../authority.ts'

/** The credential of an upstream, as a header field of each request. */
export type Injection =
  /** A secret of the user whose machine asks, or the shared one. */
  | { kind: 'secret'; header: string; secret: string; format: string; required: boolean }
  /** A credential of this host's own configuration. */
  | { kind: 'fixed'; header: string; value: string }

/** A server that guests reach at a local address, with a credential that they never see. */
export interface Upstream {
  name: string
  /** Where requests go. Its path, without a slash at the end, stands before theirs. */
  url: URL
  inject: Injection | undefined
  /** Requests that it takes. */
  routes: readonly RouteRule[]
  /** Whether absolute addresses in its answers' bodies are turned into the guest's, for package managers that follow those. */
  rewritesBodies: boolean
}

/** Every request that an upstream can take at all. */
export const ANY_ROUTE: RouteRule = { method: '*', path: '/**' }

/** The host and port that an upstream leads to. */
export function destinationOf({ url }: Upstream): Destination {
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80)
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port }
}

/**
 * The value of a header field: `{secret}` in the format is replaced, and what follows `Basic ` is encoded as RFC 7617 says,
 * e.g. `Bearer {secret}`, `Basic x-access-token:{secret}`.
 */
export function formatCredential(format: string, secret: string): string {
  const basic = /^Basic (.*)$/s.exec(format)?.[1]
  const filled = (basic ?? format).replaceAll('{secret}', () => secret)
  return basic === undefined ? filled : `Basic ${Buffer.from(filled).toString('base64')}`
}
