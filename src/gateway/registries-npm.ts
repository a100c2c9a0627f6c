import { bareAddress } from './registry-address.ts'

/** One registry of npm: the default one, or that of a scope such as `@corp`. */
export interface NpmRegistry {
  scope: string | undefined
  url: string
}

const DEFAULT_REGISTRY = 'https://registry.npmjs.org/'

/**
 * npm's registries from the texts of its npmrc files (the ones that win last) and its environment: lines `registry = URL`
 * and `@scope:registry = URL`. No other line is looked at, so no token is ever read.
 */
export function readNpmRegistries(texts: string[], env: NodeJS.ProcessEnv): NpmRegistry[] {
  const found = new Map<string | undefined, string>([[undefined, DEFAULT_REGISTRY]])
  for (const line of texts.flatMap((text) => text.split('\n'))) {
    const match = /^\s*(?:(?<scope>@[^:\s]+):)?registry\s*=\s*(?<value>.+?)\s*$/.exec(line)
    const url = bareAddress(expand(unquote(match?.groups?.['value'] ?? ''), env))
    if (url !== undefined) found.set(match?.groups?.['scope'], url)
  }
  const fromEnv = bareAddress(env['npm_config_registry'] ?? env['NPM_CONFIG_REGISTRY'] ?? '')
  if (fromEnv !== undefined) found.set(undefined, fromEnv)
  return [...found].map(([scope, url]) => ({ scope, url }))
}

function unquote(value: string): string {
  return value.replace(/^(["'])(.*)\1$/, '$2')
}

/** npm replaces `${NAME}` in npmrc files. */
function expand(value: string, env: NodeJS.ProcessEnv): string {
  return value.replaceAll(/\$\{(\w+)\}/g, (whole, name: string) => env[name] ?? whole)
}
