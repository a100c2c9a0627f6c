import { isIP } from 'node:net'
import { canonicalAddress } from './addresses.ts'

/** Where a guest wants to go: `host` in lower case without brackets and trailing dot, an IP address in its one spelling. */
export interface Destination {
  host: string
  port: number
}

const HOST_NAME = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/

/** What resolvers take for an IPv4 address: decimal, octal, hexadecimal, shortened (WHATWG URL, "ends in a number"). */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/

/** Reads `host`, `host:port`, `[v6]` or `[v6]:port`; undefined where it is none of them. `port` is undefined where none is named. */
export function splitAuthority(authority: string): { host: string; port: number | undefined } | undefined {
  const match = /^(?:\[(?<v6>[0-9A-Fa-f:.]{2,45})\]|(?<name>[^:[\]]{1,254}))(?::(?<port>\d{1,5}))?$/.exec(authority)
  if (match?.groups === undefined) return undefined
  const { v6, name = '', port: portText } = match.groups
  const port = portText === undefined ? undefined : Number(portText)
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined
  if (v6 !== undefined) return isIP(v6) === 6 ? { host: canonicalAddress(v6), port } : undefined
  const host = name.toLowerCase().replace(/\.$/, '')
  const isName = HOST_NAME.test(host) && host.length <= 253 && (isIP(host) === 4 || !ENDS_IN_NUMBER.test(host))
  return isName ? { host, port } : undefined
}

/** A whole destination, e.g. of a CONNECT request; undefined where it can't be read or no port is known. */
export function parseAuthority(authority: string, defaultPort?: number): Destination | undefined {
  const parts = splitAuthority(authority)
  const port = parts?.port ?? defaultPort
  return parts === undefined || port === undefined ? undefined : { host: parts.host, port }
}

/** As a `Host` header writes it. */
export function formatAuthority({ host, port }: Destination): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
}
