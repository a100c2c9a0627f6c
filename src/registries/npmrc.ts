import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { stripCredentials } from './apt-sources.ts'

type Environment = Record<string, string | undefined>

/** npm's settings on this host, credentials included: for fetching packages here, never for a guest. */
export type NpmSettings = Record<string, string>

/** Parses an npmrc: `key = value` lines, comments by `;` or `#`, `${NAME}` from the environment. */
export function parseNpmrc(text: string, env: Environment): NpmSettings {
  const settings: NpmSettings = {}
  for (const line of text.split('\n')) {
    const match = /^\s*([^;#=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line)
    if (match === null) continue
    const [, key = '', raw = ''] = match
    const value = raw.replace(/^(["'])(.*)\1$/, '$2')
    settings[key] = value.replace(/\$\{([^}]+)\}/g, (whole, name: string) => env[name] ?? whole)
  }
  return settings
}

/** Reads npm's settings as npm itself would, without a project: the global file, the user's file, then the environment. */
export function readNpmSettings(env: Environment = process.env, home = homedir()): NpmSettings {
  const prefix = env['npm_config_prefix'] ?? env['PREFIX']
  const global = env['npm_config_globalconfig'] ?? env['NPM_CONFIG_GLOBALCONFIG']
  const globals = global === undefined ? ['/etc/npmrc', '/usr/etc/npmrc', '/usr/local/etc/npmrc'] : [global]
  if (prefix !== undefined) globals.push(join(prefix, 'etc/npmrc'))
  const user = env['npm_config_userconfig'] ?? env['NPM_CONFIG_USERCONFIG'] ?? join(home, '.npmrc')
  const settings: NpmSettings = {}
  for (const path of [...globals, user]) {
    try {
      Object.assign(settings, parseNpmrc(readFileSync(path, 'utf8'), env))
    } catch {
      // npm does without a file that isn't there, too
    }
  }
  for (const [name, value] of Object.entries(env)) {
    const key = /^npm_config_(.+)$/i.exec(name)?.[1]
    if (key === undefined || value === undefined || value === '') continue
    // npm's rule: `_` stands for `-`, except at the start and in keys that name an address.
    settings[key.startsWith('/') ? key : key.toLowerCase().replace(/(?!^)_/g, '-')] = value
  }
  return settings
}

/** npm's own default, where the host's configuration names no registry. */
const DEFAULT_REGISTRY = 'https://registry.npmjs.org/'

/** The registries of npm's settings: `registry` and one for each `@scope:registry`, without credentials. */
export function npmRegistries(settings: NpmSettings): Record<string, string> {
  const registries: Record<string, string> = { registry: DEFAULT_REGISTRY }
  for (const [key, value] of Object.entries(settings)) {
    if (!/^(?:@[^:/\s]+:)?registry$/.test(key) || !URL.canParse(value)) continue
    registries[key] = stripCredentials(value)
  }
  return registries
}

const FETCHING =
  /^(?:\/\/.*|(?:@[^:/\s]+:)?registry|cafile|ca|cert|key|strict-ssl|proxy|https-proxy|noproxy|always-auth)$/

/** Of all settings those that decide how packages are fetched, credentials included. */
export function npmSettingsForFetching(settings: NpmSettings): NpmSettings {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => FETCHING.test(key)))
}

/** Settings that pacote takes: registries, credentials, proxies and certificates, under the names npm's libraries use. */
export function pacoteOptions(settings: NpmSettings): Record<string, unknown> {
  const options: Record<string, unknown> = { registry: DEFAULT_REGISTRY }
  for (const [key, value] of Object.entries(settings)) {
    if (key.startsWith('//') || /^(?:@[^:/\s]+:)?registry$/.test(key)) options[key] = value
  }
  const cafile = settings['cafile']
  if (cafile !== undefined) options['ca'] = splitCertificates(readFileSync(cafile, 'utf8'))
  if (settings['ca'] !== undefined) options['ca'] = settings['ca'].replaceAll('\\n', '\n')
  if (settings['strict-ssl'] === 'false') options['strictSSL'] = false
  if (settings['proxy'] !== undefined) options['proxy'] = settings['proxy']
  const httpsProxy = settings['https-proxy'] ?? settings['proxy']
  if (httpsProxy !== undefined) options['httpsProxy'] = httpsProxy
  if (settings['noproxy'] !== undefined) options['noProxy'] = settings['noproxy']
  return options
}

function splitCertificates(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
}
