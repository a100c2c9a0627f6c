import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'
import { resolveConfig, type Environment, type Origin, type Resolved } from './resolve.ts'

/** Folders for this user, by the XDG rules; fixed ones for root. */
function folders(env: Environment): { home: string; cacheDir: string; runBase: string } {
  const root = process.getuid?.() === 0
  const xdg = (name: string, fallback: string) => join(env[name] || join(homedir(), fallback), 'vivarium')
  const uid = process.getuid?.() ?? 0
  return {
    home: resolve(env['VIVARIUM_HOME'] || (root ? '/var/lib/vivarium' : xdg('XDG_DATA_HOME', '.local/share'))),
    cacheDir: resolve(env['VIVARIUM_CACHE'] || (root ? '/var/cache/vivarium' : xdg('XDG_CACHE_HOME', '.cache'))),
    runBase: root ? '/run/vivarium' : join(env['XDG_RUNTIME_DIR'] || '/tmp', `vivarium-${uid}`),
  }
}

/**
 * Reads `vivarium.json` (from `--config`, `VIVARIUM_CONFIG`, or the data folder), the environment and flags, and returns
 * the whole configuration with the origin of each value, folders included. Throws `invalid_request` naming the setting at fault.
 * `flags` maps setting paths such as `listen` or `anthropic.upstream` to values.
 */
export function loadConfig(
  flags: Record<string, unknown> = {},
  configFile?: string,
  env: Environment = process.env,
): Resolved {
  const { home, cacheDir, runBase } = folders(env)
  const named = configFile ?? env['VIVARIUM_CONFIG']
  const path = named ?? join(home, 'vivarium.json')
  // Sockets of orchestrators with different data folders must not meet, and their paths must stay short.
  const runDir = join(runBase, createHash('sha256').update(home).digest('hex').slice(0, 8))
  const { config, origins } = resolveConfig({
    file: readSettings(path, named !== undefined),
    filePath: path,
    env,
    flags,
    home,
    cacheDir,
    runDir,
  })
  return { config, origins: { ...origins, ...folderOrigins(env) } }
}

/** Where the values of `folders` come from. */
function folderOrigins(env: Environment): Record<string, Origin> {
  const root = process.getuid?.() === 0
  const origin = (...names: string[]) => {
    const name = names.find((name) => env[name] && !(root && name.startsWith('XDG_')))
    return name === undefined ? 'default' : `env ${name}`
  }
  return {
    home: origin('VIVARIUM_HOME', 'XDG_DATA_HOME'),
    cacheDir: origin('VIVARIUM_CACHE', 'XDG_CACHE_HOME'),
    runDir: origin('XDG_RUNTIME_DIR'),
  }
}

function readSettings(path: string, mustExist: boolean): unknown {
  if (!mustExist && !existsSync(path)) return {}
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new VivariumError('invalid_request', `The settings file ${path} can't be read: ${why}`, { cause: error })
  }
}

/** Variables of the environment that hold secrets of a server. */
const SECRET_VARIABLES = [
  'ANTHROPIC_API_KEY',
  'CLAUDE_CODE_OAUTH_TOKEN',
  'VIVARIUM_MASTER_KEY',
  'VIVARIUM_PREVIOUS_MASTER_KEY',
]

/** Removes secrets that have been read, so that no process started later inherits them. */
export function dropSecrets(env: Environment): void {
  for (const name of SECRET_VARIABLES) delete env[name]
}
