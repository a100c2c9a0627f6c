import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { lockFile } from '../../files/lock.ts'
import { findEndpoint, type Endpoint } from '../endpoint.ts'

export const MAIN = fileURLToPath(new URL('../../main.ts', import.meta.url))

export interface ServerProcess {
  child: ChildProcess
  /** Resolves once it listens. */
  endpoint(): Promise<Endpoint>
  /** What it has said on stderr. */
  log(): string
  /** Resolves once its log holds `text`. */
  says(text: string): Promise<void>
  /** Resolves with its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>
}

export interface Host extends AsyncDisposable {
  home: string
  /** The environment of a server on it. */
  env: NodeJS.ProcessEnv
  /** Starts the server, with more in its environment. */
  start(env?: Record<string, string>, stdio?: StdioOptions): ServerProcess
}

/**
 * A data folder and a cache for servers on which tasks wait: their image would have to be built first, and the lock for that is held
 * here. One of them gets as far as waiting for it, the others stay in the queue. Disposing ends what was started.
 */
export async function quietHost(): Promise<Host> {
  await using stack = new AsyncDisposableStack()
  const home = mkdtempSync(join(tmpdir(), 'vivarium-server-'))
  stack.defer(() => rmSync(home, { recursive: true, force: true }))
  const images = join(home, 'cache/images')
  mkdirSync(images, { recursive: true })
  const wait = { code: 'internal', timeoutMs: 0, onWait: () => {}, signal: undefined } as const
  stack.use(await lockFile(join(images, 'build.lock'), wait))
  const ownership = stack.move()
  const base = {
    PATH: process.env['PATH'],
    HOME: home,
    // Node keeps the compiled source there: a server starts in half the time.
    NODE_COMPILE_CACHE: fileURLToPath(new URL('../../../node_modules/.cache/compile', import.meta.url)),
    VIVARIUM_HOME: home,
    VIVARIUM_CACHE: join(home, 'cache'),
    VIVARIUM_LISTEN: '127.0.0.1:0',
    VIVARIUM_MACHINES_MAX_MACHINES: '1',
    VIVARIUM_READY_MACHINES: '0',
    VIVARIUM_READY_CLAUDE: '0',
  }
  return {
    home,
    env: base,
    start(env = {}, stdio = ['ignore', 'ignore', 'pipe']) {
      const child = spawn(process.execPath, [MAIN, 'serve'], { env: { ...base, ...env }, stdio })
      ownership.defer(() => void child.kill('SIGKILL'))
      return serverProcess(home, child)
    },
    [Symbol.asyncDispose]: () => ownership.disposeAsync(),
  }
}

function serverProcess(home: string, child: ChildProcess): ServerProcess {
  let log = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (log += text))
  const ended = once(child, 'exit').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals)
  const until = async <T>(what: () => T | undefined): Promise<T> => {
    for (let tries = 0; tries < 600 && child.exitCode === null; tries++, await sleep(50)) {
      const found = what()
      if (found !== undefined) return found
    }
    throw new Error(`The server did not come that far:\n${log}`)
  }
  return {
    child,
    ended,
    log: () => log,
    says: async (text) => void (await until(() => (log.includes(text) ? text : undefined))),
    endpoint: () =>
      until(() => {
        const endpoint = findEndpoint(home)
        return endpoint?.pid === child.pid ? endpoint : undefined
      }),
  }
}
