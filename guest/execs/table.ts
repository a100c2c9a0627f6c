import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ServerHttp2Stream } from 'node:http2'
import { SPOOL_BYTES, TERMINAL_SPOOL_BYTES } from '../../src/link/constants.ts'
import type { ExecSpec, ExecStarted, InputAccepted, SignalRequest, TerminalSize } from '../../src/link/protocol.ts'
import { answerJson, numberParameter, readJson, Refusal, type Request } from '../http.ts'
import type { AgentOptions } from '../options.ts'
import { Exec, LOST } from './exec.ts'
import { ExecJournal } from './journal.ts'
import { Launcher } from './launcher.ts'
import { agentIsSpared } from './memory.ts'
import { CgroupTracker, EXEC_VARIABLE, ProcTracker } from './tracking.ts'
import { imageEnvironment } from './users.ts'

/** All execs of this agent's life, and the requests about them. */
export class Execs {
  readonly #execs = new Map<string, Promise<Exec>>()
  readonly #options: AgentOptions
  readonly #spools: string
  readonly #journal: ExecJournal
  readonly #launcher: Launcher
  readonly #imageEnvironment: Record<string, string>

  constructor(options: AgentOptions) {
    this.#options = options
    this.#spools = join(options.stateDir, 'spool')
    // What an agent before this one left: its processes' pipes are broken, nobody can go on with it.
    rmSync(this.#spools, { recursive: true, force: true })
    mkdirSync(this.#spools, { recursive: true })
    this.#journal = new ExecJournal(join(options.stateDir, 'execs'))
    // Outside a VM the machine's environment is somebody else's.
    this.#imageEnvironment = options.transport.kind === 'device' ? imageEnvironment() : {}
    this.#launcher = new Launcher({ ...options, spared: agentIsSpared() })
  }

  /** Serves `/execs/{id}` and what is below it. */
  async handle(request: Request): Promise<void> {
    const [, id = '', action] = request.segments
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) throw new Refusal(400, 'not an exec id')
    const { method, stream, query } = request
    if (action === undefined && method === 'PUT') return this.#put(id, request)
    const exec = await this.#find(id)
    if (action === 'output' && method === 'GET')
      return sendOutput(stream, exec, numberParameter(query, 'from'), request.closed)
    if (action === 'ack' && method === 'POST') {
      exec.ack(numberParameter(query, 'to'))
      return answerJson(stream, {})
    }
    if (action === 'input' && method === 'PUT') {
      if (exec.input === undefined) throw new Refusal(409, 'the process was started without stdin')
      const at = await exec.input.accept(numberParameter(query, 'at'), stream, query.get('end') === '1')
      return answerJson(stream, { at } satisfies InputAccepted)
    }
    if (action === 'signal' && method === 'POST') {
      const { signal } = await readJson<SignalRequest>(stream)
      await exec.signal(signal)
      return answerJson(stream, {})
    }
    if (action === 'resize' && method === 'POST') {
      await exec.resize(await readJson<TerminalSize>(stream))
      return answerJson(stream, {})
    }
    throw new Refusal(404, `no such request: ${method} ${action ?? ''}`)
  }

  async #put(id: string, { stream, query, closed }: Request): Promise<void> {
    const spec = await readJson<ExecSpec>(stream)
    const started = this.#execs.get(id) ?? this.#start(id, spec)
    const exec = await started
    if (query.get('output') === '1') return sendOutput(stream, exec, 0, closed)
    answerJson(stream, { pid: exec.pid } satisfies ExecStarted)
  }

  #start(id: string, spec: ExecSpec): Promise<Exec> {
    this.#refuseLost(id)
    this.#journal.add(id)
    const { cgroupDir, switchUsers, proxyPort } = this.#options
    const track = (group: string) => (group === '' ? new ProcTracker(id) : new CgroupTracker(group))
    const mark: Record<string, string> = cgroupDir === undefined ? { [EXEC_VARIABLE]: id } : {}
    const environment = { ...this.#imageEnvironment, ...mark }
    const spoolDir = join(this.#spools, id)
    const spoolBytes = spec.tty === undefined ? SPOOL_BYTES : TERMINAL_SPOOL_BYTES
    const context = {
      launcher: this.#launcher,
      track,
      spoolDir,
      spoolBytes,
      switchUsers,
      proxyPort,
      environment,
      onLost: () => this.#execs.delete(id),
    }
    const started = Exec.start(spec, context)
    this.#execs.set(id, started)
    started.catch((error: unknown) => {
      this.#execs.delete(id)
      // What could not be started may be tried again under the same id; what was lost meanwhile may have run.
      if (!isLost(error)) this.#journal.remove(id)
    })
    return started
  }

  async #find(id: string): Promise<Exec> {
    const exec = await this.#execs.get(id)
    if (exec !== undefined) return exec
    this.#refuseLost(id)
    throw new Refusal(404, `no exec ${id}`)
  }

  #refuseLost(id: string): void {
    if (this.#journal.has(id)) throw new Refusal(410, LOST)
  }
}

function isLost(error: unknown): boolean {
  return error instanceof Refusal && error.status === 410
}

/** The answer's head waits so long for output, to go out with it: of something short, the host is woken once. */
const HEAD_MS = 50

async function sendOutput(stream: ServerHttp2Stream, exec: Exec, from: number, closed: AbortSignal): Promise<void> {
  if (from < exec.spool.start) throw new Refusal(416, `output before ${exec.spool.start} was acknowledged and is gone`)
  if (from > exec.spool.end) throw new Refusal(416, `there are only ${exec.spool.end} bytes of output`)
  if (closed.aborted) return
  let at = from
  let next = exec.spool.read(at, closed)
  // A host that has input to send waits for the head.
  if (exec.input === undefined) await settledWithin(next, HEAD_MS)
  if (closed.aborted) return
  stream.respond({ ':status': 200, 'content-type': 'application/octet-stream' })
  for (;;) {
    const bytes = await next
    if (closed.aborted) return
    if (bytes === undefined) break
    at += bytes.length
    // The last bytes and the end in one piece.
    if (exec.spool.endsAt(at)) {
      stream.end(bytes)
      return
    }
    if (!stream.write(bytes)) await drained(stream, closed)
    next = exec.spool.read(at, closed)
  }
  stream.end()
}

/** Resolves when a promise has settled, in either way, after `ms` at the latest. */
function settledWithin(promise: Promise<unknown>, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    const timer = setTimeout(done, ms)
    // Why it failed is heard by whoever waits for it next.
    void promise.finally(done).catch(() => undefined)
  })
}

function drained(stream: ServerHttp2Stream, closed: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done)
      closed.removeEventListener('abort', done)
      resolve()
    }
    stream.on('drain', done)
    closed.addEventListener('abort', done)
  })
}
