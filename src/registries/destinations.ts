import { stripCredentials, readAptSources, type AptSource } from './apt-sources.ts'
import { npmRegistries, readNpmSettings, type NpmSettings } from './npmrc.ts'

/** Where a registry listens. IPv6 addresses stand without brackets. */
export interface RegistryDestination {
  host: string
  port: number
}

/**
 * Host and port of every package registry that this host is configured for, by its npm and apt configuration, each once:
 * what guests may reach by default, and what their own configuration names.
 */
export function registryDestinations(
  apt: AptSource[] = readAptSources(),
  npm: NpmSettings = readNpmSettings(),
): RegistryDestination[] {
  const addresses = [...apt.flatMap((source) => source.uris), ...Object.values(npmRegistries(npm))]
  const urls = addresses.filter((address) => /^https?:/.test(address) && URL.canParse(address)).map(stripCredentials)
  const destinations = urls.map((address) => destinationOf(new URL(address)))
  return [...new Map(destinations.map((each) => [`${each.host}:${each.port}`, each])).values()]
}

function destinationOf({ hostname, port, protocol }: URL): RegistryDestination {
  return { host: hostname.replaceAll(/[[\]]/g, ''), port: Number(port) || (protocol === 'http:' ? 80 : 443) }
}
