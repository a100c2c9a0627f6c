import { stripCredentials } from './apt-sources.ts'
import type { HostRegistries } from './host.ts'
import { goProxies } from './languages.ts'
import { loginFor } from './netrc.ts'
import { npmRegistries, type NpmSettings } from './npmrc.ts'

/** A registry that this host has a credential for: guests reach it by the gateway, which adds the credential. */
export interface RegistryUpstream {
  /** e.g. `npm`, `npm-acme`, `apt-2`. */
  name: string
  /** Scheme, host and port. */
  origin: string
  /** Begin of the paths that the credential is for, without a slash at the end. */
  path: string
  /** What stands in the field `Authorization`. Never for a guest. */
  authorization: string
  /** Whether its answers name files by absolute addresses that its package manager follows as they are. */
  rewritesBodies: boolean
}

/** Of a registry all but its credential, as far as guests must know. */
export type UpstreamAddress = Pick<RegistryUpstream, 'name' | 'origin' | 'path'>

type Found = Omit<RegistryUpstream, 'name' | 'rewritesBodies'>

/**
 * The registries that this host's npm, apt, pip and go have a credential for. Same configuration, same names: the image holds
 * them.
 */
export function registryUpstreams({ apt, aptLogins, npm, pip, mirrors }: HostRegistries): RegistryUpstream[] {
  const upstreams: RegistryUpstream[] = []
  const add = (base: string, rewritesBodies: boolean, found: Found | undefined) => {
    const isKnown = upstreams.some((each) => each.origin === found?.origin && each.path === found.path)
    if (found !== undefined && !isKnown) upstreams.push({ name: freeName(base, upstreams), ...found, rewritesBodies })
  }
  // npm itself turns the address of a file into that of its default registry, not of a scope's.
  for (const [key, address] of Object.entries(npmRegistries(npm))) {
    const scope = /^@(.*):registry$/.exec(key)?.[1]
    add(scope === undefined ? 'npm' : `npm-${scope}`, scope !== undefined, npmAuthorization(npm, key, address))
  }
  for (const address of new Set(apt.flatMap((source) => source.uris))) {
    if (!/^https?:/.test(address) || !URL.canParse(address)) continue
    const login = loginFor(new URL(address), aptLogins)
    const found = ownAuthorization(address)
    add(
      'apt',
      false,
      found ??
        (login && {
          origin: new URL(address).origin,
          path: login.path,
          authorization: basic(login.user, login.password),
        }),
    )
  }
  for (const address of [...(pip.index === undefined ? [] : [pip.index]), ...pip.extra])
    add('pip', true, ownAuthorization(address, parentPath))
  for (const address of goProxies(mirrors.go['GOPROXY'])) add('go', false, ownAuthorization(address))
  return upstreams
}

/** The address of a registry for guests: without a credential, by way of an upstream where one has it. */
export function guestRegistry(address: string, upstreams: readonly UpstreamAddress[]): string {
  const plain = stripCredentials(address)
  const { origin, pathname } = new URL(plain)
  const [upstream] = upstreams
    .filter((each) => each.origin === origin && `${pathname}/`.startsWith(`${each.path}/`))
    .toSorted((a, b) => b.path.length - a.path.length)
  return upstream === undefined ? plain : `http://${upstream.name}.upstream${pathname}`
}

function freeName(base: string, taken: readonly RegistryUpstream[]): string {
  const clean = base
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 36)
  const names = new Set(taken.map((each) => each.name))
  let name = clean
  for (let n = 2; names.has(name); n += 1) name = `${clean}-${n}`
  return name
}

/** What npm would send (npm-registry-fetch): the entry for the registry's address or the nearest folder above it. */
function npmAuthorization(npm: NpmSettings, key: string, address: string): Found | undefined {
  const { host, origin, pathname } = new URL(address)
  for (let path = pathname.replace(/\/?$/, '/'); ; path = path.replace(/[^/]*\/$/, '')) {
    const authorization = npmEntry(npm, `//${host}${path}`) ?? npmEntry(npm, `//${host}${path.replace(/\/$/, '')}`)
    if (authorization !== undefined) return { origin, path: path.replace(/\/$/, ''), authorization }
    if (path === '/') break
  }
  return ownAuthorization(npm[key] ?? address)
}

function npmEntry(npm: NpmSettings, place: string): string | undefined {
  const [token, auth, user, password] = ['_authToken', '_auth', 'username', '_password'].map(
    (name) => npm[`${place}:${name}`],
  )
  if (token) return `Bearer ${token}`
  if (auth) return `Basic ${auth}`
  if (user && password) return basic(user, Buffer.from(password, 'base64').toString())
  return undefined
}

/** The credential in an address itself; `widen` tells for which paths it counts, its own by default. */
function ownAuthorization(address: string, widen = (path: string) => path): Found | undefined {
  const { username, password, origin, pathname } = new URL(address)
  if (username === '' && password === '') return undefined
  const authorization = basic(decodeURIComponent(username), decodeURIComponent(password))
  return { origin, path: widen(pathname.replace(/\/$/, '')), authorization }
}

/** An index of Python packages keeps the files themselves beside it: `…/simple` and `…/packages`. */
function parentPath(path: string): string {
  return path.replace(/\/[^/]*$/, '')
}

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
}
