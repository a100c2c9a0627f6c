import { GUEST_PROXY_PORT, GUEST_UPSTREAM_PORT, GUEST_USER } from '../link/constants.ts'
import { renderDeb822, stripCredentials, type AptSource } from '../registries/apt-sources.ts'
import { npmRegistries } from '../registries/npmrc.ts'
import { guestRegistry } from '../registries/upstreams.ts'
import type { HostFacts } from './host.ts'
import type { GuestFile } from './recipe.ts'

const PROXY = `http://127.0.0.1:${GUEST_PROXY_PORT}`
const NO_PROXY = '127.0.0.1,localhost,::1'
/** Debian's certificates and those that were added to this host. */
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const EXTRA_CERTIFICATES = '/usr/local/share/ca-certificates/vivarium-added.pem'

/** Of the shape that npm's tokens have, and good for nothing. */
const NPM_PLACEHOLDER = `npm_${'vivariumPlaceholder'.padEnd(36, '0')}`

const upstreamAddress = (name: string) => `http://127.0.0.1:${GUEST_UPSTREAM_PORT}/${name}`

/**
 * The configuration files of a guest: package sources and registries of this host by address only, the gateway as everyone's
 * proxy, the agent's account. Nothing here is secret, and nothing secret may be added: the disk is readable by every task.
 */
export function guestFiles(host: HostFacts): GuestFile[] {
  const text = (path: string, lines: string[], mode = 0o644): GuestFile => {
    return { path, content: lines.map((line) => `${line}\n`).join(''), mode, encoding: 'utf8' }
  }
  const certificates = host.trust.filter((file) => file.path.endsWith('.crt')).map((file) => file.content)
  return [
    ...host.trust,
    ...(certificates.length > 0
      ? [
          text(
            EXTRA_CERTIFICATES,
            certificates.map((pem) => pem.trimEnd()),
          ),
        ]
      : []),
    text('/etc/hostname', ['vivarium']),
    text('/etc/hosts', ['127.0.0.1 localhost vivarium', '::1 localhost ip6-localhost ip6-loopback']),
    text('/etc/environment', environment(host, certificates.length > 0)),
    text('/etc/apt/sources.list.d/debian.sources', [renderDeb822(guestSources(host)).trimEnd()]),
    text('/etc/apt/apt.conf.d/90vivarium', aptConfiguration(host)),
    text('/usr/local/etc/npmrc', [...npmConfiguration(host), `cafile=${CERTIFICATES}`]),
    text('/etc/pip.conf', pipConfiguration(host)),
    ...cargoConfiguration(host).map((lines) => text('/.cargo/config.toml', lines)),
    text('/etc/gitconfig', gitConfiguration()),
    text('/etc/claude-code/managed-settings.json', [JSON.stringify(CLAUDE_SETTINGS)]),
    text('/etc/sudoers.d/vivarium', sudoers(), 0o440),
  ]
}

/** WebFetch would ask Anthropic about each host first, past the gateway's way to the model: hosts are the allow-list's matter. */
const CLAUDE_SETTINGS = { skipWebFetchPreflight: true }

/** Read by PAM for every login and sudo, and by the script that starts the guest agent: plain `NAME=value`, no quotes. */
function environment(host: HostFacts, hasAddedCertificates: boolean): string[] {
  return [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'LANG=C.UTF-8',
    ...['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].map((name) => `${name}=${PROXY}`),
    ...['no_proxy', 'NO_PROXY'].map((name) => `${name}=${NO_PROXY}`),
    'NODE_USE_ENV_PROXY=1',
    `GITHUB_API_URL=${upstreamAddress('github-api')}`,
    // git's own configuration counts for cargo then.
    'CARGO_NET_GIT_FETCH_WITH_CLI=true',
    ...goEnvironment(host),
    // Programs that bring certificates of their own must learn of the ones added to the host.
    ...(hasAddedCertificates
      ? [
          `NODE_EXTRA_CA_CERTS=${EXTRA_CERTIFICATES}`,
          ...['SSL_CERT_FILE', 'PIP_CERT', 'REQUESTS_CA_BUNDLE'].map((name) => `${name}=${CERTIFICATES}`),
        ]
      : []),
  ]
}

function goEnvironment({ mirrors, upstreams }: HostFacts): string[] {
  const { GOPROXY, ...others } = mirrors.go
  const proxies = GOPROXY?.replace(/https?:\/\/[^,|]+/g, (address) =>
    URL.canParse(address) ? guestRegistry(address, upstreams).replace(/\/$/, '') : '',
  )
  const settings = { ...others, ...(proxies === undefined ? {} : { GOPROXY: proxies }) }
  // What a shell or PAM could read otherwise is no address that works.
  return Object.entries(settings).flatMap(([name, value]) =>
    /^[\w/:.,|*+@-]+$/.test(value) ? [`${name}=${value}`] : [],
  )
}

function guestSources({ aptSources, upstreams }: HostFacts): AptSource[] {
  return aptSources.map((source) => ({ ...source, uris: source.uris.map((uri) => guestRegistry(uri, upstreams)) }))
}

function aptConfiguration(host: HostFacts): string[] {
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

function npmConfiguration({ npm, upstreams }: HostFacts): string[] {
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
  ]
}

function pipConfiguration({ pip, upstreams }: HostFacts): string[] {
  const index = pip.index === undefined ? [] : [guestRegistry(pip.index, upstreams)]
  const extra = pip.extra.map((address) => guestRegistry(address, upstreams))
  const plainHosts = [...index, ...extra]
    .filter((address) => address.startsWith('http:'))
    .map((address) => new URL(address).host)
  return [
    '[global]',
    `proxy = ${PROXY}`,
    `cert = ${CERTIFICATES}`,
    'disable-pip-version-check = true',
    // Debian keeps its Python for itself; in a throwaway machine nothing is lost by sharing it.
    'break-system-packages = true',
    ...index.map((address) => `index-url = ${address}`),
    ...(extra.length > 0 ? [`extra-index-url = ${extra.join(' ')}`] : []),
    ...(plainHosts.length > 0 ? [`trusted-host = ${plainHosts.join(' ')}`] : []),
  ]
}

/** For every folder, since cargo looks for its configuration in all that are above: at most one file. */
function cargoConfiguration({ mirrors: { cargo } }: HostFacts): string[][] {
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

function gitConfiguration(): string[] {
  return [
    '[http]',
    `\tproxy = ${PROXY}`,
    // GitHub by way of the gateway, which adds the user's token; in repositories the address stays what it is.
    `[url "${upstreamAddress('github')}/"]`,
    ...['https://github.com/', 'git@github.com:', 'ssh://git@github.com/'].map((address) => `\tinsteadOf = ${address}`),
    `[http "http://127.0.0.1:${GUEST_UPSTREAM_PORT}/"]`,
    '\tproxy =',
    '[init]',
    '\tdefaultBranch = main',
    '[safe]',
    '\tdirectory = *',
    // An identity, so that a commit works; a repository's own configuration wins.
    '[user]',
    `\tname = ${GUEST_USER.name}`,
    `\temail = ${GUEST_USER.name}@vivarium.invalid`,
  ]
}

function sudoers(): string[] {
  const proxies = 'http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY NODE_USE_ENV_PROXY'
  const certificates = 'NODE_EXTRA_CA_CERTS SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE'
  const others = 'GITHUB_API_URL GIT_TERMINAL_PROMPT GOPROXY GOSUMDB GONOSUMDB GOPRIVATE'
  return [
    `Defaults env_keep += "${proxies} ${certificates} ${others}"`,
    `${GUEST_USER.name} ALL=(ALL:ALL) NOPASSWD: ALL`,
  ]
}
