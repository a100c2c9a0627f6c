import { GUEST_UPSTREAM_PORT, GUEST_USER } from '../link/constants.ts'
import { renderDeb822 } from '../registries/apt-sources.ts'
import type { HostFacts } from './host.ts'
import {
  aptConfiguration,
  aptSources,
  cargoConfiguration,
  goEnvironment,
  npmConfiguration,
  pipConfiguration,
} from './package-managers.ts'
import { CERTIFICATES, NO_PROXY, PROXY } from './proxy.ts'
import type { GuestFile } from './recipe.ts'

const EXTRA_CERTIFICATES = '/usr/local/share/ca-certificates/vivarium-added.pem'

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
    text('/etc/apt/sources.list.d/debian.sources', [renderDeb822(aptSources(host)).trimEnd()]),
    text('/etc/apt/apt.conf.d/90vivarium', aptConfiguration(host)),
    text('/usr/local/etc/npmrc', npmConfiguration(host)),
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
