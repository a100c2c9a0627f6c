import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import { Settings, type Config } from './schema.ts'

export type Environment = Record<string, string | undefined>

/** Where a value came from: `default`, `file /path`, `env NAME`, `flag --name`. */
export type Origin = string

export interface Resolved {
  config: Config
  /** By setting path, e.g. `anthropic.upstream`. */
  origins: Record<string, Origin>
}

export interface Sources {
  /** Parsed content of the settings file; `{}` where there is none. */
  file: unknown
  filePath: string
  env: Environment
  /** Setting path → value. */
  flags: Record<string, unknown>
  home: string
  cacheDir: string
  runDir: string
}

const OBJECT = z.record(z.string(), z.unknown())

/**
 * One fully defaulted Config from file, then environment, then flags; pure. Every setting has an environment variable:
 * `anthropic.upstream` is `VIVARIUM_ANTHROPIC_UPSTREAM`, `machines.scratchMib` is `VIVARIUM_MACHINES_SCRATCH_MIB`; lists are
 * comma-separated, or JSON; what holds named things is JSON. Throws `invalid_request` that names the setting and where its value came from.
 */
export function resolveConfig(sources: Sources): Resolved {
  if (sources.env['VIVARIUM_DATABASE_URL']) {
    throw new VivariumError(
      'invalid_request',
      'VIVARIUM_DATABASE_URL is set, but this version keeps its data in SQLite only: unset it.',
    )
  }
  const layers = OBJECT.safeParse(sources.file)
  if (!layers.success)
    throw new VivariumError('invalid_request', `The settings file ${sources.filePath} must hold a JSON object.`)
  const settings = structuredClone(layers.data)
  const origins: Record<string, Origin> = {}
  for (const path of settingPaths()) {
    const name = environmentName(path)
    origins[path] = has(settings, path) ? `file ${sources.filePath}` : 'default'
    const fromEnv = sources.env[name]
    if (fromEnv !== undefined && fromEnv !== '') {
      put(settings, path, fromText(path, fromEnv))
      origins[path] = `env ${name}`
    }
    if (sources.flags[path] !== undefined) {
      put(settings, path, sources.flags[path])
      origins[path] = `flag --${path.split('.').at(-1)}`
    }
  }
  const parsed = Settings.safeParse(settings)
  if (!parsed.success) throw settingError(parsed.error, origins, sources.filePath)
  const { $schema: _, listen, ...rest } = parsed.data
  return {
    config: {
      ...rest,
      listen: parseListen(listen),
      home: sources.home,
      cacheDir: sources.cacheDir,
      runDir: sources.runDir,
      credentials: {
        apiKey: sources.env['ANTHROPIC_API_KEY'] || undefined,
        oauthToken: sources.env['CLAUDE_CODE_OAUTH_TOKEN'] || undefined,
        masterKey: sources.env['VIVARIUM_MASTER_KEY'] || undefined,
        previousMasterKey: sources.env['VIVARIUM_PREVIOUS_MASTER_KEY'] || undefined,
        directory: sources.env['CREDENTIALS_DIRECTORY'] || undefined,
      },
    },
    origins,
  }
}

/** `127.0.0.1:8080`, `[::1]:8080` or `8080` as host and port. */
export function parseListen(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(':')
  const host = colon < 0 ? '127.0.0.1' : listen.slice(0, colon).replace(/^\[|\]$/g, '')
  const port = Number(listen.slice(colon + 1))
  if (port > 65_535)
    throw new VivariumError('invalid_request', `The port in "${listen}" must be at most 65535.`, { field: 'listen' })
  return { host, port }
}

/** Paths of all settings, e.g. `listen`, `image.packages.debian`; one that holds named things, e.g. `prices`, is one setting. */
export function settingPaths(): string[] {
  const walk = (schema: unknown, prefix: string): string[] => {
    const inner = unwrapped(schema)
    if (!(inner instanceof z.ZodObject)) return [prefix]
    return Object.entries(inner.shape).flatMap(([key, value]) => walk(value, prefix === '' ? key : `${prefix}.${key}`))
  }
  return walk(Settings, '').filter((path) => path !== '$schema')
}

function unwrapped(schema: unknown): unknown {
  const wrapped = schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
  return wrapped ? unwrapped(schema.unwrap()) : schema
}

/** The environment variable of a setting path. */
export function environmentName(path: string): string {
  return `VIVARIUM_${path
    .replaceAll('.', '_')
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toUpperCase()}`
}

function fromText(path: string, text: string): unknown {
  const sample = get(Settings.parse({}), path)
  if (Array.isArray(sample))
    return (
      arrayOf(text) ??
      text
        .split(',')
        .map((item) => item.trim())
        .filter((item) => item !== '')
    )
  if (OBJECT.safeParse(sample).success) return OBJECT.safeParse(jsonOf(text)).data ?? text
  if (typeof sample === 'number' && text.trim() !== '') return Number(text)
  if (typeof sample === 'boolean' && (text === 'true' || text === 'false')) return text === 'true'
  return text
}

/** A list of more than words, e.g. of upstreams, is written as JSON. */
function arrayOf(text: string): unknown[] | undefined {
  const value = jsonOf(text)
  return Array.isArray(value) ? value : undefined
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Words, commas between them; `[::1]:80` is one, too.
    return undefined
  }
}

function get(object: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => OBJECT.safeParse(value).data?.[key], object)
}

function has(object: unknown, path: string): boolean {
  return get(object, path) !== undefined
}

function put(object: Record<string, unknown>, path: string, value: unknown): void {
  const keys = path.split('.')
  const last = keys.pop() ?? path
  let at = object
  for (const key of keys) {
    const inner = OBJECT.safeParse(at[key]).success ? (at[key] as Record<string, unknown>) : {}
    at[key] = inner
    at = inner
  }
  at[last] = value
}

function settingError(error: z.ZodError, origins: Record<string, Origin>, filePath: string): VivariumError {
  const issue = error.issues[0]
  const path = issue?.path.join('.') ?? ''
  const known = Object.keys(origins).find((name) => path === name || path.startsWith(`${name}.`))
  const origin = known === undefined ? `file ${filePath}` : origins[known]
  const what = path === '' ? 'The settings' : `The setting "${path}"`
  return new VivariumError('invalid_request', `${what} (from ${origin}): ${issue?.message ?? 'invalid'}`, {
    field: path,
  })
}
