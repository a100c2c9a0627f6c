import type { HostRegistries } from './host.ts'
import { CRATES_IO, GO_PROXY, goProxies } from './languages.ts'
import { npmRegistries } from './npmrc.ts'
import { PYPI } from './pip.ts'

/** Where a registry listens. IPv6 addresses stand without brackets. */
export interface RegistryDestination {
  host: string
  port: number
}

/**
 * Host and port of every package registry that this host is configured for, each once; of pip, cargo and go their own where
 * nothing is configured. What the preset `packages` opens, and what the guests' own configuration names.
 */
export function registryDestinations({
  apt,
  npm,
  pip,
  mirrors,
}: Omit<HostRegistries, 'aptLogins'>): RegistryDestination[] {
  const proxies = goProxies(mirrors.go['GOPROXY'])
  const addresses = [
    ...apt.flatMap((source) => source.uris),
    ...Object.values(npmRegistries(npm)),
    ...(pip.index === undefined ? PYPI : [pip.index]),
    ...pip.extra,
    ...(mirrors.cargo === undefined ? CRATES_IO : [mirrors.cargo.replace(/^sparse\+/, '')]),
    ...(proxies.length === 0 ? GO_PROXY : proxies),
  ]
  const urls = addresses.filter((address) => /^https?:/.test(address) && URL.canParse(address))
  const destinations = urls.map((address) => destinationOf(new URL(address)))
  return [...new Map(destinations.map((each) => [`${each.host}:${each.port}`, each])).values()]
}

function destinationOf({ hostname, port, protocol }: URL): RegistryDestination {
  return { host: hostname.replaceAll(/[[\]]/g, ''), port: Number(port) || (protocol === 'http:' ? 80 : 443) }
}
