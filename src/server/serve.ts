import { mkdirSync } from 'node:fs'
import { completeSwap } from '../backup/swap.ts'
import { compose, type ComposeOptions } from '../compose.ts'
import { listen } from '../api/listen.ts'
import type { Config } from '../config/schema.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { Logger } from '../telemetry/types.ts'
import { announce, withdraw } from './endpoint.ts'
import { watchIdle } from './idle.ts'
import { localKey } from './local-key.ts'
import { lockDataFolder } from './lock.ts'
import type { Supervisor } from './supervisor.ts'

/**
 * What stopping may take from the first signal on: running tasks to be dealt with, machines to go, streams to end. A service manager must wait
 * longer (`TimeoutStopSec`).
 */
const STOP_DEADLINE_MS = 180_000

export interface RunningServer extends AsyncDisposable {
  url: string
  /** The owner's key for clients on this machine. */
  key: string
  /** Resolves when `idleExitSeconds` have passed without work or clients. */
  idle: Promise<void>
}

/**
 * Starts the orchestrator of a data folder: takes the folder, opens the services, takes up what a previous one left, listens,
 * and announces itself to clients. Disposing undoes all of it: tasks first, while clients are still answered; then streams end, and all else in
 * reverse. It rejects with `shutting_down` when that takes too long; what is left stands in the journal. Rejects with `conflict` when the folder or the port
 * is taken, and with `setup_required` when the folder can't be had; `anyPort` takes a free port instead of a taken one, `forgetSecrets` empties the vault.
 * `supervisor` is told how far it is, where there is one. The other options are for tests.
 */
export async function startServer(
  config: Config,
  log: Logger,
  options: ComposeOptions & { anyPort: boolean; supervisor?: Supervisor },
): Promise<RunningServer> {
  await using stack = new AsyncDisposableStack()
  makeDataFolder(config.home)
  stack.use(lockDataFolder(config.home))
  completeSwap(config.home)
  withdraw(config.home)
  const orchestrator = stack.use(await compose(config, log, options))
  const key = await localKey(config.home, orchestrator.identity, orchestrator.owner)
  await orchestrator.recover()
  const { anyPort, supervisor } = options
  const server = stack.use(await listen(orchestrator.app.fetch, config.listen, { anyPort, fd: supervisor?.listenFd }))
  const { promise: idle, resolve: onIdle } = Promise.withResolvers<void>()
  const isBusy = () => orchestrator.isBusy() || server.connections() > 0
  stack.use(watchIdle(config.idleExitSeconds, isBusy, onIdle))
  stack.use(announce(config.home, { url: server.url, key, pid: process.pid }))
  stack.use(supervisor)
  supervisor?.watch(orchestrator.answers)
  stack.defer(() => orchestrator.drain())
  stack.defer(() => supervisor?.stopping())
  await supervisor?.ready(`Dashboard and API at ${server.url}`)
  const ownership = stack.move()
  return { url: server.url, key, idle, [Symbol.asyncDispose]: () => within(STOP_DEADLINE_MS, ownership.disposeAsync()) }
}

async function within(ms: number, stopped: Promise<void>): Promise<void> {
  const { promise: overdue, reject } = Promise.withResolvers<never>()
  const message = `The server did not stop within ${ms / 1000} s; what it left is in its journal, and the next start takes it up.`
  const timer = setTimeout(() => reject(new VivariumError('shutting_down', message)), ms)
  try {
    await Promise.race([stopped, overdue])
  } finally {
    clearTimeout(timer)
  }
}

function makeDataFolder(home: string): void {
  try {
    mkdirSync(home, { recursive: true, mode: 0o700 })
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    const message = `The data folder ${home} can't be made: ${why}. Choose another one with VIVARIUM_HOME.`
    throw new VivariumError('setup_required', message, { cause: error })
  }
}
