import { isIP } from 'node:net'
import type { MiddlewareHandler } from 'hono'
import { VivariumError } from '../../contracts/errors.ts'
import type { ApiOptions, AppEnv } from '../types.ts'

const WILDCARDS = new Set(['0.0.0.0', '::'])
const LOOPBACK = new Set(['localhost', '127.0.0.1', '::1'])

/**
 * Refuses requests for a name that is not ours: a hostile page can point its own name at this address (DNS rebinding) and
 * is then same-origin with us. Only names can be rebound, so where we listen everywhere every literal address will do.
 */
export function hostCheck(options: Pick<ApiOptions, 'listenHost' | 'publicHosts'>): MiddlewareHandler<AppEnv> {
  const listen = bareHost(options.listenHost)
  return async (c, next) => {
    const { host } = new URL(c.req.url)
    // The target of a request may be a whole URL, so that it and the Host header can differ: both must be ours.
    const hosts = [host, c.req.header('host') ?? host]
    const foreign = hosts.find((candidate) => !isOurs(candidate, listen, options.publicHosts))
    if (foreign !== undefined) {
      throw new VivariumError(
        'forbidden',
        `This server is not known as "${foreign}". Add it to "publicHosts" if it is.`,
      )
    }
    await next()
  }
}

function isOurs(host: string, listen: string, publicHosts: string[]): boolean {
  const name = bareHost(host)
  if (LOOPBACK.has(name) || name === listen) return true
  if (WILDCARDS.has(listen) && isIP(name) !== 0) return true
  return isPublic(host, publicHosts)
}

/**
 * Refuses what another site's page asks for: its requests carry its origin. Reading is left to the browser's own rules,
 * since we allow no other origin to see an answer; changes and WebSockets are not covered by those.
 */
export function originCheck(options: Pick<ApiOptions, 'publicHosts'>): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const origin = c.req.header('origin')
    const safe = ['GET', 'HEAD'].includes(c.req.method) && c.req.header('upgrade') === undefined
    if (origin !== undefined && !safe && !isSameOrigin(origin, new URL(c.req.url).host, options.publicHosts)) {
      throw new VivariumError('forbidden', `Pages of ${JSON.stringify(origin)} may not use this server.`)
    }
    await next()
  }
}

function isSameOrigin(origin: string, host: string, publicHosts: string[]): boolean {
  if (!URL.canParse(origin)) return false
  const url = new URL(origin)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return false
  // Behind a proxy the host may be rewritten: the origin is then one of the public names.
  return url.host === host || isPublic(url.host, publicHosts)
}

function isPublic(host: string, publicHosts: string[]): boolean {
  const wanted = host.toLowerCase()
  return publicHosts.some((entry) => entry.toLowerCase() === wanted || entry.toLowerCase() === bareHost(wanted))
}

/** Without port, brackets and the dot of a fully qualified name. */
function bareHost(host: string): string {
  const lower = host.toLowerCase()
  if (isIP(lower) !== 0) return lower
  return lower
    .replace(/:\d+$/, '')
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '')
}
