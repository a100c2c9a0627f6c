import { GUEST_UPSTREAM_PORT, UPSTREAM_SUFFIX, UPSTREAMS_AUTHORITY } from '../../link/constants.ts'

/** What a guest asks of which upstream. */
export interface Asked {
  name: string
  /** Path and query, as the upstream is to see them after its own path. */
  path: string
  /** Where the guest believes the upstream to be, without a slash at the end. */
  guest: string
}

/** Whether a request is meant for an upstream: a name that no resolver is ever asked for. */
export function isUpstreamAuthority(authority: string): boolean {
  return authority.replace(/:\d+$/, '').replace(/\.$/, '').toLowerCase().endsWith(UPSTREAM_SUFFIX)
}

/**
 * Reads which upstream a request is for. It has two addresses: `http://127.0.0.1:3130/NAME/…`, for any program, and by the proxy
 * `http://NAME.upstream/…`, where paths are the upstream's own, for package managers that put addresses together themselves.
 */
export function readAsked(authority: string, path: string): Asked {
  const host = authority.replace(/:\d+$/, '').replace(/\.$/, '').toLowerCase()
  if (host !== UPSTREAMS_AUTHORITY)
    return { name: host.slice(0, -UPSTREAM_SUFFIX.length), path, guest: `http://${host}` }
  const [, name = '', rest = ''] = /^\/([^/?]*)(.*)$/s.exec(path) ?? []
  return { name, path: rest.startsWith('/') ? rest : `/${rest}`, guest: upstreamAddress(name) }
}

/** The address of an upstream in a guest, without a slash at the end. */
export function upstreamAddress(name: string): string {
  return `http://127.0.0.1:${GUEST_UPSTREAM_PORT}/${name}`
}
