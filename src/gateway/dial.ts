import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { connect, isIP, type LookupFunction, type Socket } from 'node:net'
import { canonicalAddress } from './addresses.ts'
import { formatAuthority, type Destination } from './authority.ts'
import { CONNECT_TIMEOUT_MS, MAX_LOOKUPS } from './limits.ts'
import type { Decision, Policy } from './policy.ts'

/** All addresses of a name. Once `signal` is aborted nobody waits for them. Injected in tests. */
export type Resolve = (host: string, signal?: AbortSignal) => Promise<string[]>

/** The system's resolver, IPv4 first. */
export const systemResolve: Resolve = async (host) => {
  const found = await lookup(host, { all: true, order: 'ipv4first' })
  return found.map(({ address }) => address)
}

/**
 * A resolver for one machine: at most MAX_LOOKUPS at once, the others wait. Those that nobody waits for any more are left out: names
 * that resolve slowly must not make a queue that only grows.
 */
export function limitLookups(resolve: Resolve): Resolve {
  const lanes: Promise<unknown>[] = Array.from({ length: MAX_LOOKUPS }, () => Promise.resolve())
  let next = 0
  return (host, signal) => {
    const lane = next++ % lanes.length
    const result = (lanes[lane] ?? Promise.resolve()).then(() =>
      signal?.aborted === true ? [] : resolve(host, signal),
    )
    // The lane goes on whatever became of this look-up; its caller hears of it by `result`.
    lanes[lane] = result.catch(() => undefined)
    return result
  }
}

/** Either a connection, or the decision that there is none, or why it failed. */
export type Dialled =
  | { kind: 'connected'; socket: Socket; rule: string }
  | { kind: 'denied'; decision: Decision }
  | { kind: 'failed'; rule: string; message: string }

/**
 * Connects to a destination if the policy allows its name and an address it resolves to. The connection goes to an
 * address that was checked, never through a second look-up, so a name that changes its address in between gains nothing.
 * Gives up after CONNECT_TIMEOUT_MS, or when `signal` says that nobody waits any more.
 */
export async function dial(
  destination: Destination,
  { policy, resolve }: { policy: Policy; resolve: Resolve },
  signal: AbortSignal,
): Promise<Dialled> {
  const decision = policy.decide(destination)
  if (!decision.allowed) return { kind: 'denied', decision }
  const timeout = AbortSignal.timeout(CONNECT_TIMEOUT_MS)
  const ended = AbortSignal.any([timeout, signal])
  const failed = (message: string): Dialled => ({ kind: 'failed', rule: decision.rule, message })

  const addresses = await abortable(addressesOf(destination.host, resolve, ended), ended).catch(() => [])
  if (addresses.length === 0) return failed(`The name ${destination.host} can't be resolved.`)
  const checked = addresses.map((address) => ({ address, ...policy.decideAddress(destination, address) }))
  const allowed = checked.filter((each) => each.allowed).map((each) => each.address)
  const [refused] = checked
  if (allowed.length === 0 && refused !== undefined) return { kind: 'denied', decision: refused }

  const socket = connect({
    host: destination.host,
    port: destination.port,
    lookup: answering(allowed),
    autoSelectFamily: true,
    // The two directions of a tunnel end independently.
    allowHalfOpen: true,
    noDelay: true,
    keepAlive: true,
  })
  // Whoever uses the socket sees it close; an error that nobody hears would end the process.
  socket.on('error', () => undefined)
  try {
    await once(socket, 'connect', { signal: ended })
    const reached = socket.remoteAddress
    if (reached === undefined || !allowed.includes(canonicalAddress(reached))) {
      socket.destroy()
      return failed(`${formatAuthority(destination)} can't be reached: connected to ${reached ?? 'nothing'}.`)
    }
    return { kind: 'connected', socket, rule: decision.rule }
  } catch (error) {
    socket.destroy()
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
    const reason = timeout.aborted ? `no answer within ${CONNECT_TIMEOUT_MS / 1000} s` : why
    return failed(`${formatAuthority(destination)} can't be reached: ${reason}.`)
  }
}

async function addressesOf(host: string, resolve: Resolve, signal: AbortSignal): Promise<string[]> {
  const found = isIP(host) === 0 ? await resolve(host, signal) : [host]
  return found.map(canonicalAddress).filter((address) => isIP(address) !== 0)
}

/** A look-up that answers with addresses already known. */
function answering(addresses: string[]): LookupFunction {
  const all = addresses.map((address) => ({ address, family: isIP(address) }))
  return (_host, options, callback) => {
    if (options.all === true) return callback(null, all)
    callback(null, all[0]?.address ?? '', all[0]?.family)
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener('abort', onAbort))
}
