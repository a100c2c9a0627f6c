import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http'

/** Fields that are about one connection (RFC 9110, section 7.6.1) or about the proxy itself. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'expect',
])

function isForNextHop(name: string): boolean {
  return !HOP_BY_HOP.has(name) && !name.startsWith(':') && !name.startsWith('proxy-')
}

/** Fields of a message that go on to the next hop. HTTP/2 forbids what is left out, HTTP/1 gives it another meaning. */
export function endToEnd(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  const named = new Set((headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase()))
  return Object.fromEntries(Object.entries(headers).filter(([name]) => isForNextHop(name) && !named.has(name)))
}

/** Fields by which a guest could present a credential of its own making to an upstream that has ours. */
const CREDENTIALS = new Set(['x-api-key', 'authorization', 'cookie'])

/** The same without any credential. */
export function withoutCredentials(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !CREDENTIALS.has(name)))
}

/** The same of a request that is sent without a body. */
export function withoutBody(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith('content-')))
}

/** What tells an HTTP/1 upstream where a body ends whose length the guest did not name. */
export function framedBody(headers: IncomingHttpHeaders, endsAfterHeaders: boolean): OutgoingHttpHeaders {
  return endsAfterHeaders || headers['content-length'] !== undefined ? {} : { 'transfer-encoding': 'chunked' }
}
