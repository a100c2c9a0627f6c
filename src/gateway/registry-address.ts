/**
 * The address of a registry and nothing else: user, password, query and fragment are dropped, since that is where tokens
 * stand. Undefined where it is no http or https address.
 */
export function bareAddress(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  return `${url.origin}${url.pathname}`
}
