import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isSea } from 'node:sea'
import { createClient } from '../client/client.ts'
import type { VivariumClient } from '../client/types.ts'
import { loadConfig } from '../config/load.ts'
import type { Config } from '../config/schema.ts'
import { VivariumError } from '../contracts/errors.ts'
import { findEndpoint } from '../server/endpoint.ts'
import { isLocked } from '../server/lock.ts'
import type { Io } from './io.ts'

export interface Server {
  url: string
  apiKey: string
}

/** A server that a client started leaves after this many seconds without work or clients. */
const BACKGROUND_IDLE_SECONDS = 300
const START_DEADLINE_MS = 60_000
const AFTER_EXIT_MS = 5000
const POLL_MS = 100

/**
 * The server this command talks to: `VIVARIUM_URL` with `VIVARIUM_API_KEY`, or the one that runs on this machine's data
 * folder. With `start`, one is started in the background where none runs; otherwise that is `setup_required`.
 */
export async function findServer(io: Io, options: { start: boolean }): Promise<Server> {
  const url = io.env['VIVARIUM_URL']
  if (url) {
    const apiKey = io.env['VIVARIUM_API_KEY']
    if (!apiKey)
      throw new VivariumError(
        'unauthenticated',
        'VIVARIUM_URL is set, but not VIVARIUM_API_KEY: set it to a key of that server.',
      )
    if (!isHttpUrl(url))
      throw new VivariumError('invalid_request', `VIVARIUM_URL must look like http://127.0.0.1:8080, not "${url}".`)
    return { url, apiKey }
  }
  const { config } = loadConfig({}, undefined, io.env)
  const running = await findRunning(config.home)
  if (running !== undefined) return running
  if (!options.start) {
    throw new VivariumError(
      'setup_required',
      'No server runs on this machine: start one with "vivarium serve", or set VIVARIUM_URL and VIVARIUM_API_KEY.',
    )
  }
  io.note('Starting a server in the background …')
  return startInBackground(io, config)
}

/** A client of `findServer`'s server. */
export async function connect(io: Io, options: { start: boolean } = { start: false }): Promise<VivariumClient> {
  return createClient(await findServer(io, options))
}

async function findRunning(home: string): Promise<Server | undefined> {
  const endpoint = findEndpoint(home)
  // Without the lock it was killed, and its port may belong to another user's program, which must not be sent the key.
  if (endpoint === undefined || !isLocked(home)) return undefined
  const server = { url: endpoint.url, apiKey: endpoint.key }
  try {
    // Asks with the key, so that another program on a reused port is not taken for ours.
    await createClient(server).me({ signal: AbortSignal.timeout(5000) })
    return server
  } catch {
    // Left over from a server that was killed.
    return undefined
  }
}

async function startInBackground(io: Io, config: Config): Promise<Server> {
  const { home } = config
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const logFile = join(home, 'server.log')
  const log = openSync(logFile, 'a', 0o600)
  const program = isSea() ? [] : [fileURLToPath(new URL('../main.ts', import.meta.url))]
  const args = [
    ...process.execArgv,
    ...program,
    'serve',
    '--background',
    '--idle-exit',
    String(BACKGROUND_IDLE_SECONDS),
  ]
  const child = spawn(process.execPath, args, {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
    env: { ...io.env, ...absolutePaths(io, config) },
  })
  closeSync(log)
  child.unref()
  let deadline = performance.now() + START_DEADLINE_MS
  // Another client may have been faster; ours then leaves the folder to theirs, which may still be on its way.
  child.once('exit', () => {
    deadline = Math.min(deadline, performance.now() + AFTER_EXIT_MS)
  })
  while (performance.now() < deadline) {
    const server = await findRunning(home)
    if (server !== undefined) return server
    await sleep(POLL_MS, undefined, { signal: io.signal })
  }
  throw new VivariumError('setup_required', `The server did not start: see ${logFile}.`)
}

/** The server runs in another folder: what was said relative to ours must be said anew. */
function absolutePaths(io: Io, { home, cacheDir }: Config): Record<string, string> {
  const settings = io.env['VIVARIUM_CONFIG']
  return {
    VIVARIUM_HOME: home,
    VIVARIUM_CACHE: cacheDir,
    ...(settings && { VIVARIUM_CONFIG: resolve(io.cwd, settings) }),
  }
}

function isHttpUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)
}
