const PREFIX = '#key='

/**
 * The API key that the address carries after `#`, removed from the address bar and from the history. A fragment never
 * reaches a server's log, so it is how the command line hands over a key.
 */
export function takeKey(): string | undefined {
  const { hash, pathname, search } = window.location
  if (!hash.startsWith(PREFIX)) return undefined
  window.history.replaceState(window.history.state, '', pathname + search)
  try {
    return decodeURIComponent(hash.slice(PREFIX.length)).trim() || undefined
  } catch {
    // Not percent-encoded as it should be: no key then, and the login page asks for one.
    return undefined
  }
}
