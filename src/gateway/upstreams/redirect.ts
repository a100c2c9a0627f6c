import type { IncomingHttpHeaders } from 'node:http'

/** Where an upstream stands in the world and in the guest, and which request is answered. */
export interface Place {
  /** The upstream's own address. */
  upstream: URL
  /** The same in the guest, without a slash at the end. */
  guest: string
  /** The address that was asked for, in the world. */
  asked: URL
}

/**
 * An address from an answer as the guest must use it: one of the upstream itself becomes the local one, where the credential is
 * added again. Any other stays what it is: the guest goes there by its own way out, without the credential. Undefined where it
 * can't be read.
 */
export function guestAddress(address: string, { upstream, guest, asked }: Place): string | undefined {
  if (!URL.canParse(address, asked)) return undefined
  const url = new URL(address, asked)
  const base = upstream.pathname.replace(/\/$/, '')
  const isInside = url.origin === upstream.origin && `${url.pathname}/`.startsWith(`${base}/`)
  return isInside ? `${guest}${url.pathname.slice(base.length)}${url.search}${url.hash}` : url.href
}

/** The fields of an answer that lead somewhere, for the guest: redirects, and the pages of a list. */
export function guestHeaders(headers: IncomingHttpHeaders, place: Place): IncomingHttpHeaders {
  const { location, link, ...others } = headers
  const leads = location === undefined ? undefined : guestAddress(location, place)
  const links = [link ?? []].flat().join(', ')
  return {
    ...others,
    ...(leads === undefined ? {} : { location: leads }),
    ...(links === ''
      ? {}
      : {
          link: links.replace(
            /<([^>]*)>/g,
            (whole, to: string) => `<${guestAddress(to, place) ?? whole.slice(1, -1)}>`,
          ),
        }),
  }
}
