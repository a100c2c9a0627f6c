import { GUEST_PROXY_PORT, GUEST_USER } from '../link/constants.ts'
import { renderDeb822, withoutCredentials } from '../registries/apt-sources.ts'
import type { HostFacts } from './host.ts'
import { npmRegistries } from '../registries/npmrc.ts'
import type { GuestFile } from './recipe.ts'

const PROXY = `http://127.0.0.1:${GUEST_PROXY_PORT}`
const NO_PROXY = '127.0.0.1,localhost,::1'
/** Debian's certificates and those that were added to this host. */
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
const EXTRA_CERTIFICATES = '/usr/local/share/ca-certificates/vivarium-added.pem'

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
    text('/etc/environment', environment(certificates.length > 0)),
    text('/etc/apt/sources.list.d/debian.sources', [renderDeb822(withoutCredentials(host.aptSources)).trimEnd()]),
    text('/etc/apt/apt.conf.d/90vivarium', aptConfiguration(host)),
    text('/usr/local/etc/npmrc', [...npmConfiguration(host), `cafile=${CERTIFICATES}`]),
    text('/etc/pip.conf', [
      '[global]',
      `proxy = ${PROXY}`,
      `cert = ${CERTIFICATES}`,
      'disable-pip-version-check = true',
    ]),
    text('/etc/gitconfig', gitConfiguration()),
    text('/etc/sudoers.d/vivarium', sudoers(), 0o440),
  ]
}

/** Read by PAM for every login and sudo, and by the script that starts the guest agent: plain `NAME=value`, no quotes. */
function environment(hasAddedCertificates: boolean): string[] {
  return [
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'LANG=C.UTF-8',
    ...['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'].map((name) => `${name}=${PROXY}`),
    ...['no_proxy', 'NO_PROXY'].map((name) => `${name}=${NO_PROXY}`),
    'NODE_USE_ENV_PROXY=1',
    // Programs that bring certificates of their own must learn of the ones added to the host.
    ...(hasAddedCertificates
      ? [`NODE_EXTRA_CA_CERTS=${EXTRA_CERTIFICATES}`, `PIP_CERT=${CERTIFICATES}`, `REQUESTS_CA_BUNDLE=${CERTIFICATES}`]
      : []),
  ]
}

function aptConfiguration(host: HostFacts): string[] {
  return [
    `Acquire::http::Proxy "${PROXY}";`,
    `Acquire::https::Proxy "${PROXY}";`,
    'Acquire::Retries "3";',
    'Acquire::Languages "none";',
    'APT::Install-Recommends "false";',
    ...host.aptOptions.filter((line) => /^Acquire::Check-(?:Valid-Until|Date) /.test(line)),
  ]
}

function npmConfiguration(host: HostFacts): string[] {
  return [
    ...Object.entries(npmRegistries(host.npm)).map(([key, address]) => `${key}=${address}`),
    `proxy=${PROXY}`,
    `https-proxy=${PROXY}`,
    `noproxy=${NO_PROXY}`,
    'audit=false',
    'fund=false',
    'update-notifier=false',
  ]
}

function gitConfiguration(): string[] {
  return [
    '[http]',
    `\tproxy = ${PROXY}`,
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
  const kept = 'http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY NODE_USE_ENV_PROXY NODE_EXTRA_CA_CERTS'
  return [`Defaults env_keep += "${kept}"`, `${GUEST_USER.name} ALL=(ALL:ALL) NOPASSWD: ALL`]
}
