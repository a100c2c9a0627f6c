import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createClient } from '../../src/client/client.ts'
import type { VivariumClient } from '../../src/client/types.ts'
import { compose, type Orchestrator } from '../../src/compose.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Config } from '../../src/config/schema.ts'
import type { ExecResponse } from '../../src/contracts/machine.ts'
import { TaskRequest } from '../../src/contracts/task.ts'
import type { Resolve } from '../../src/gateway/dial.ts'
import { createLogger } from '../../src/telemetry/logger.ts'

export interface ComposedOptions {
  /** What `vivarium.json` holds. */
  settings?: Record<string, unknown>
  env?: Record<string, string>
  resolve?: Resolve
  /** Is given every line of the log, which goes to nobody otherwise. */
  onLog?: (line: string) => void
}

export interface Composed extends AsyncDisposable {
  orchestrator: Orchestrator
  config: Config
  /** Whose tasks `hold` starts unless told otherwise. */
  ownerId: string
  /** A client of the API, without a network. */
  client(apiKey: string | undefined): VivariumClient
  /** Starts a task, and resolves with its machine once its agent runs. It is cancelled in the end. */
  hold(request: Record<string, unknown>, userId?: string): Promise<Held>
}

/** A task that runs until it is told to end. */
export interface Held {
  taskId: string
  vmId: string
  /** Runs a command in its machine, as the agent's user, who may use sudo. Fails when the command does. */
  exec(command: string, options?: { stdin?: string; timeoutSeconds?: number }): Promise<string>
}

/** An orchestrator inside this process, for tests that look into its parts or replace one; with a data folder of its own. */
export async function startComposed(options: ComposedOptions = {}): Promise<Composed> {
  await using stack = new AsyncDisposableStack()
  const home = mkdtempSync(join(tmpdir(), 'vivarium-composed-'))
  stack.defer(() => rmSync(home, { recursive: true, force: true }))
  writeFileSync(join(home, 'vivarium.json'), JSON.stringify(options.settings ?? {}))
  const env = {
    VIVARIUM_HOME: home,
    VIVARIUM_READY_MACHINES: '0',
    VIVARIUM_READY_CLAUDE: '0',
    PATH: process.env['PATH'],
    ...options.env,
  }
  const { config } = loadConfig({}, undefined, env)
  mkdirSync(config.home, { recursive: true })
  const log = createLogger('debug', { write: (line) => options.onLog?.(line) })
  const resolver = options.resolve && { resolve: options.resolve }
  const orchestrator = stack.use(await compose(config, log, resolver))
  const ownerId = orchestrator.owner.user.id
  const ownership = stack.move()

  async function hold(request: Record<string, unknown>, userId = ownerId): Promise<Held> {
    const { tasks, events, access } = orchestrator
    const { id: taskId } = await tasks.submit(userId, TaskRequest.parse({ timeoutSeconds: 3600, ...request }))
    for await (const event of events.follow(taskId, 1)) if (event.type === 'status' && event.status === 'running') break
    const { vmId, error } = await tasks.get(userId, taskId)
    if (vmId === null) throw new Error(`The task has no machine: ${JSON.stringify(error)}`)
    const exec = async (command: string, { stdin = '', timeoutSeconds = 300 } = {}) => {
      const run = { command, cwd: '/workspace', env: {}, stdin, timeoutSeconds }
      const done = await access.exec(userId, vmId, run)
      if (!succeeded(done)) throw new Error(`${command} failed: ${JSON.stringify(done).slice(-2000)}`)
      return done.stdout
    }
    return { taskId, vmId, exec }
  }

  const client = (apiKey: string | undefined) =>
    createClient({ url: 'http://127.0.0.1', apiKey, fetch: (request) => orchestrator.app.fetch(request) })
  const dispose = () => ownership.disposeAsync()
  return { orchestrator, config, ownerId, client, hold, [Symbol.asyncDispose]: dispose }
}

function succeeded({ exitCode, truncated, timedOut }: ExecResponse): boolean {
  return exitCode === 0 && !truncated && !timedOut
}
