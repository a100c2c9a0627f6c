import { readdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Destination } from './authority.ts'
import { readAptSources } from './registries-apt.ts'
import { readNpmRegistries, type NpmRegistry } from './registries-npm.ts'

/** The package registries this host is configured for. Addresses without user, password, query or any token. */
export interface Registries {
  /** npm's default registry first, then those of scopes. */
  npm: NpmRegistry[]
  /** Base addresses of apt sources. */
  apt: string[]
}

/** Where the configuration stands; the defaults are this host's. */
export interface RegistryFiles {
  /** npmrc files, the ones that win last. */
  npmrc: string[]
  aptDir: string
  env: NodeJS.ProcessEnv
}

function hostFiles(): RegistryFiles {
  const { env } = process
  const userConfig = env['NPM_CONFIG_USERCONFIG'] ?? env['npm_config_userconfig'] ?? join(homedir(), '.npmrc')
  return {
    // Debian's npm, npm below /usr and npm below /usr/local each have a global file; a project's own is not the host's.
    npmrc: ['/etc/npmrc', '/usr/etc/npmrc', '/usr/local/etc/npmrc', userConfig],
    aptDir: '/etc/apt',
    env,
  }
}

/** Reads the configuration of npm and apt. Files that are missing or unreadable count as empty. */
export function readRegistries(files: RegistryFiles = hostFiles()): Registries {
  return {
    npm: readNpmRegistries(files.npmrc.map(readText), files.env),
    apt: readAptSources([
      { text: readText(join(files.aptDir, 'sources.list')), deb822: false },
      ...listFolder(join(files.aptDir, 'sources.list.d'))
        .filter((name) => name.endsWith('.list') || name.endsWith('.sources'))
        .map((name) => ({
          text: readText(join(files.aptDir, 'sources.list.d', name)),
          deb822: name.endsWith('.sources'),
        })),
    ]),
  }
}

/** Host and port of every registry, each once: what guests may reach. */
export function registryDestinations(registries: Registries): Destination[] {
  const urls = [...registries.npm.map(({ url }) => url), ...registries.apt].map((url) => new URL(url))
  const unique = new Map(
    urls.map(({ hostname, port, protocol }) => {
      const host = hostname.replaceAll(/[[\]]/g, '')
      const destination = { host, port: Number(port) || (protocol === 'http:' ? 80 : 443) }
      return [`${host}:${destination.port}`, destination]
    }),
  )
  return [...unique.values()]
}

/** A file's text, or none: which of these files exist differs from host to host. */
function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path).toSorted()
  } catch {
    return []
  }
}
