import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { startScriptedModel, type ScriptedModel } from '../../scripted-model/server.ts'
import type { ScriptInput } from '../../scripted-model/script.ts'
import { createClient } from '../../src/client/client.ts'
import type { VivariumClient } from '../../src/client/types.ts'
import { loadConfig } from '../../src/config/load.ts'
import { findEndpoint, type Endpoint } from '../../src/server/endpoint.ts'

export const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
/** The credential of the tests. It must never be found in a guest. */
export const TEST_KEY = 'sk-ant-test-5f1d7c0a9e3b4862'

export interface TestOrchestrator extends AsyncDisposable {
  url: string
  key: string
  client: VivariumClient
  model: ScriptedModel
  home: string
  /** Folder of the machines' sockets. */
  runDir: string
  /** Environment in which `vivarium` commands find this orchestrator. */
  env: Record<string, string>
  process: ChildProcess
  /** Ends the orchestrator by a signal and starts it again on the same data folder: another url, another client, and `env` on top of its environment. */
  restart(signal?: NodeJS.Signals, env?: Record<string, string>): Promise<void>
  /** Runs a command of the program to its end. */
  cli(
    args: string[],
    options?: { cwd?: string; input?: string },
  ): Promise<{ code: number; stdout: string; stderr: string }>
}

export interface TestOptions {
  script: ScriptInput
  env?: Record<string, string>
  /** What the settings file holds. */
  settings?: object
  /** Program and first arguments; the source by default. */
  program?: string[]
}

/** The environment of a newcomer's shell, and nothing of this one's credentials or clients. */
function cleanEnv(home: string, over: Record<string, string>): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    LANG: 'C.UTF-8',
    NO_COLOR: '1',
    // As the program from source does it; half of a start is the reading of sources.
    NODE_COMPILE_CACHE: fileURLToPath(new URL('../../node_modules/.cache/compile', import.meta.url)),
    VIVARIUM_HOME: home,
    VIVARIUM_LISTEN: '127.0.0.1:0',
    // Tests that are not about them need no machines in the background.
    VIVARIUM_READY_MACHINES: '0',
    VIVARIUM_READY_CLAUDE: '0',
    // What a test forgets to end must not outlive it.
    VIVARIUM_TASKS_AT_SHUTDOWN: 'stop',
    ...over,
  }
}

/** Runs a program to its end and collects what it prints. */
export async function run(
  argv: string[],
  options: { env: Record<string, string>; cwd?: string | undefined; input?: string | undefined },
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [command = '', ...args] = argv
  const child = spawn(command, args, { env: options.env, cwd: options.cwd, stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  child.stdin.on('error', () => {}).end(options.input ?? '')
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null]
  return { code: code ?? 128, stdout, stderr: signal === null ? stderr : `${stderr}\n(killed by ${signal})` }
}

/**
 * A real orchestrator as a process of its own, with an empty data folder and a scripted model as its upstream. Disposing
 * stops it and throws when it left anything behind.
 */
export async function startOrchestrator(options: TestOptions): Promise<TestOrchestrator> {
  await using stack = new AsyncDisposableStack()
  const home = mkdtempSync(join(tmpdir(), 'vivarium-home-'))
  stack.defer(() => rmSync(home, { recursive: true, force: true }))
  if (options.settings !== undefined) writeFileSync(join(home, 'vivarium.json'), JSON.stringify(options.settings))
  const model = stack.use(await startScriptedModel({ script: options.script, requireKey: TEST_KEY }))
  const env = cleanEnv(home, { VIVARIUM_ANTHROPIC_UPSTREAM: model.url, ...options.env })
  const program = options.program ?? [process.execPath, MAIN]
  const { config } = loadConfig({}, undefined, env)
  let log = ''
  const start = (more: Record<string, string> = {}) => {
    const child = spawn(program[0] ?? '', [...program.slice(1), 'serve'], {
      env: { ANTHROPIC_API_KEY: TEST_KEY, ...env, ...more },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (log = (log + text).slice(-100_000)))
    return child
  }
  let child = start()
  stack.defer(async () => {
    await stop(child)
    assertNothingLeft(home, config.runDir, log)
  })
  let endpoint: Endpoint = await waitForEndpoint(home, child, () => log)
  const connect = () => createClient({ url: endpoint.url, apiKey: endpoint.key })
  let client = connect()
  const ownership = stack.move()
  return {
    get url() {
      return endpoint.url
    },
    get key() {
      return endpoint.key
    },
    get client() {
      return client
    },
    get process() {
      return child
    },
    model,
    home,
    runDir: config.runDir,
    env,
    async restart(signal = 'SIGTERM', more = {}) {
      await stop(child, signal)
      child = start(more)
      endpoint = await waitForEndpoint(home, child, () => log)
      client = connect()
    },
    cli: (args, { cwd, input } = {}) => run([...program, ...args], { env, cwd, input }),
    [Symbol.asyncDispose]: () => ownership.disposeAsync(),
  }
}

async function waitForEndpoint(home: string, child: ChildProcess, log: () => string): Promise<Endpoint> {
  for (let i = 0; i < 600; i++) {
    const endpoint = findEndpoint(home)
    // One that was killed leaves its own behind.
    if (endpoint !== undefined && endpoint.pid === child.pid) return endpoint
    if (child.exitCode !== null) break
    await sleep(100)
  }
  throw new Error(`The orchestrator did not start:\n${log()}`)
}

async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  await gone
  clearTimeout(timer)
}

/** Processes whose command line or environment names a folder. */
export function processesNaming(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => ['cmdline', 'environ'].some((file) => readProc(`/proc/${pid}/${file}`).includes(text)))
    .map(Number)
}

function readProc(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The process ended meanwhile, which is all that is asked.
    return ''
  }
}

function assertNothingLeft(home: string, runDir: string, log: string): void {
  const processes = [...processesNaming(home), ...processesNaming(runDir)]
  const machines = existsSync(runDir) ? readdirSync(runDir) : []
  if (processes.length > 0 || existsSync(runDir)) {
    throw new Error(
      `The orchestrator left behind: processes ${processes.join(', ')}, folders ${machines.join(', ')}\n${log}`,
    )
  }
}
