import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import { keyringFiles, selectDebian, type AptSource } from '../registries/apt-sources.ts'
import { readHostRegistries, type HostRegistries } from '../registries/host.ts'
import { registryUpstreams, type UpstreamAddress } from '../registries/upstreams.ts'
import type { GuestFile } from './recipe.ts'

/** What an image takes from this host: where packages come from, and whom it trusts. Holds credentials. */
export interface HostFacts extends Pick<HostRegistries, 'npm' | 'pip' | 'mirrors'> {
  /** Debian's release, e.g. `bookworm`. */
  codename: string
  /** Those of Debian itself. */
  aptSources: AptSource[]
  /** Registries that guests reach by way of the gateway, which has their credentials. */
  upstreams: UpstreamAddress[]
  /** Lines of apt's configuration that fetching needs: proxies, certificates, whether dates are checked. */
  aptOptions: string[]
  /** Key rings that the sources name, and the certificates that were added to this host, at their paths. */
  trust: GuestFile[]
}

/** apt settings that decide whether a fetch works from here. */
const APT_OPTION =
  /^Acquire::(?:Check-Valid-Until|Check-Date|Max-ValidTime|Retries|ForceIPv[46]|https?(?:::.*)?) ".+";$/

const ADDED_CERTIFICATES = '/usr/local/share/ca-certificates'

/** Reads the facts of this host. Rejects with `setup_required` where the host has no Debian sources to build from. */
export async function readHostFacts(debianArchitecture: string): Promise<HostFacts> {
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? ''
  const registries = readHostRegistries()
  const aptSources = selectDebian(registries.apt, codename, debianArchitecture)
  if (aptSources.length === 0) {
    throw new VivariumError(
      'setup_required',
      'The guest image is made from Debian packages, and apt on this host names no Debian mirror: add one to /etc/apt/sources.list.d.',
    )
  }
  const { stdout } = await execa('apt-config', ['dump'])
  return {
    codename,
    aptSources,
    aptOptions: stdout.split('\n').filter((line) => APT_OPTION.test(line)),
    npm: registries.npm,
    pip: registries.pip,
    mirrors: registries.mirrors,
    upstreams: registryUpstreams(registries),
    trust: [...keyringFiles(aptSources).map(keyring), ...addedCertificates()],
  }
}

function keyring(path: string): GuestFile {
  // Key rings may be binary: latin1 keeps every byte, and writing them uses the same encoding.
  return { path, content: readFileSync(path, 'latin1'), mode: 0o644, encoding: 'latin1' }
}

function addedCertificates(): GuestFile[] {
  if (!existsSync(ADDED_CERTIFICATES)) return []
  return readdirSync(ADDED_CERTIFICATES, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.crt'))
    .toSorted()
    .map((name) => join(ADDED_CERTIFICATES, name))
    .map((path) => ({ path, content: readFileSync(path, 'utf8'), mode: 0o644, encoding: 'utf8' }))
}
