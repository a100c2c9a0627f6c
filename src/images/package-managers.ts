import { stripCredentials, type AptSource } from '../registries/apt-sources.ts'
import { npmRegistries } from '../registries/npmrc.ts'
import { guestRegistry } from '../registries/upstreams.ts'
import type { HostFacts } from './host.ts'
import { CERTIFICATES, NO_PROXY, PROXY } from './proxy.ts'

/** Of the shape that npm's tokens have, and good for nothing. */
const NPM_PLACEHOLDER = `npm_${'vivariumPlaceholder'.padEnd(36, '0')}`

/** Variables that tell go where this host finds modules. */
export function goEnvironment({ mirrors, upstreams }: HostFacts): string[] {
  const { GOPROXY, ...others } = mirrors.go
  const proxies = GOPROXY?.replace(/https?:\/\/[^,|]+/g, (address) =>
    URL.canParse(address) ? guestRegistry(address, upstreams).replace(/\/$/, '') : '',
  )
  const settings = { ...others, ...(proxies === undefined ? {} : { GOPROXY: proxies }) }
  // What a shell or PAM could read otherwise is no address that works.
  return Object.entries(settings).flatMap(([name, value]) =>
    /^[\w/:.,|*+-]+$/.test(value) ? [`${name}=${value}`] : [],
  )
}

/** Debian's sources of this host, without credentials. */
export function aptSources({ aptSources, upstreams }: HostFacts): AptSource[] {
  return aptSources.map((source) => ({ ...source, uris: source.uris.map((uri) => guestRegistry(uri, upstreams)) }))
}

/** apt.conf(5): the gateway as proxy, and what of this host's settings decides whether a fetch works. */
export function aptConfiguration(host: HostFacts): string[] {
  return [
    `Acquire::http::Proxy "${PROXY}";`,
    `Acquire::https::Proxy "${PROXY}";`,
    'Acquire::http::Proxy::127.0.0.1 "DIRECT";',
    'Acquire::http::Proxy::localhost "DIRECT";',
    'Acquire::Retries "3";',
    'Acquire::Languages "none";',
    'APT::Install-Recommends "false";',
    ...host.aptOptions.filter((line) => /^Acquire::Check-(?:Valid-Until|Date) /.test(line)),
  ]
}

/** npmrc(5): this host's registries, by way of the gateway where it has a credential for them. */
export function npmConfiguration({ npm, upstreams }: HostFacts): string[] {
  const plain = npmRegistries(npm)
  const registries = Object.entries(plain).map(([key, address]) => [key, guestRegistry(address, upstreams)] as const)
  const byGateway = registries.filter(([key, address]) => address !== plain[key]).map(([, address]) => address)
  return [
    ...registries.map(([key, address]) => `${key}=${address}`),
    // npm refuses some commands without a token; the gateway puts its own in its place.
    ...byGateway.map((address) => `${address.replace(/^http:/, '')}:_authToken=${NPM_PLACEHOLDER}`),
    // Packages are listed with the registry's own address: files are to come the way the list came, lockfiles keep it.
    ...(byGateway.includes(registries[0]?.[1] ?? '')
      ? [`replace-registry-host=${new URL(plain['registry'] ?? '').host}`]
      : []),
    `proxy=${PROXY}`,
    `https-proxy=${PROXY}`,
    `noproxy=${NO_PROXY}`,
    'audit=false',
    'fund=false',
    'update-notifier=false',
    `cafile=${CERTIFICATES}`,
  ]
}

/** pip.conf: likewise. The proxy is in the environment: of one named here pip makes no exception for local addresses. */
export function pipConfiguration({ pip, upstreams }: HostFacts): string[] {
  const index = pip.index === undefined ? [] : [guestRegistry(pip.index, upstreams)]
  const extra = pip.extra.map((address) => guestRegistry(address, upstreams))
  const plainHosts = [...index, ...extra]
    .filter((address) => address.startsWith('http:'))
    .map((address) => new URL(address).host)
  return [
    '[global]',
    `cert = ${CERTIFICATES}`,
    'disable-pip-version-check = true',
    // Debian keeps its Python for itself; in a throwaway machine nothing is lost by sharing it.
    'break-system-packages = true',
    ...index.map((address) => `index-url = ${address}`),
    ...(extra.length > 0 ? [`extra-index-url = ${extra.join(' ')}`] : []),
    ...(plainHosts.length > 0 ? [`trusted-host = ${plainHosts.join(' ')}`] : []),
  ]
}

/** A config.toml for cargo that replaces crates.io as on this host: none or one. */
export function cargoConfiguration({ mirrors: { cargo } }: HostFacts): string[][] {
  if (cargo === undefined) return []
  const sparse = cargo.startsWith('sparse+')
  const address = stripCredentials(sparse ? cargo.slice('sparse+'.length) : cargo)
  return [
    [
      '[source.crates-io]',
      'replace-with = "mirror"',
      '[source.mirror]',
      `registry = ${JSON.stringify(sparse ? `sparse+${address}` : address)}`,
    ],
  ]
}
