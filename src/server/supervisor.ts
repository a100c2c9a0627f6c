import { execa } from 'execa'
import { VivariumError } from '../contracts/errors.ts'
import type { Logger } from '../telemetry/types.ts'

/** The first descriptor that is handed over (sd_listen_fds(3)). */
const FIRST_FD = 3

const SEND_MS = 10_000

/** Signs of life within one period of the watchdog, so that one of them may fail. */
const BEATS = 3

type Environment = Record<string, string | undefined>

/** Whoever started this process and minds it: systemd, or somebody who speaks its protocol, or nobody. */
export interface Supervisor extends Disposable {
  /** A socket that listens already. */
  readonly listenFd: number | undefined
  /** The server answers; `status` is shown to people. */
  ready(status: string): Promise<void>
  /** Tells from now on that the server lives, as often as is asked for, each time that `answers` resolves with true. */
  watch(answers: () => Promise<boolean>): void
  /** The server is on its way out. */
  stopping(): Promise<void>
}

/**
 * The supervisor that an environment tells of. Its variables are removed from there, so that no process started later takes
 * them for its own. Throws `setup_required` where more than one socket is handed over.
 */
export function findSupervisor(env: Environment, log: Logger): Supervisor {
  const taken = (name: string) => {
    const value = env[name]
    delete env[name]
    return value === '' ? undefined : value
  }
  const isOurs = (pid: string | undefined) => pid === undefined || Number(pid) === process.pid
  const sockets = { pid: taken('LISTEN_PID'), count: Number(taken('LISTEN_FDS') ?? 0) }
  taken('LISTEN_FDNAMES')
  const watchdog = { pid: taken('WATCHDOG_PID'), usec: Number(taken('WATCHDOG_USEC') ?? 0) }
  const address = taken('NOTIFY_SOCKET')
  const handed = sockets.pid !== undefined && isOurs(sockets.pid) ? sockets.count : 0
  if (handed > 1) {
    const message = `${handed} sockets were handed over, where one is needed: leave one ListenStream= in the socket unit.`
    throw new VivariumError('setup_required', message)
  }
  return new NotifiedSupervisor({
    listenFd: handed === 1 ? FIRST_FD : undefined,
    periodMs: address !== undefined && isOurs(watchdog.pid) ? watchdog.usec / 1000 : 0,
    send: address === undefined ? async () => {} : (state) => notify(address, env['PATH'], state, log),
  })
}

export interface SupervisorOptions {
  listenFd: number | undefined
  /** Within which a sign of life is expected; 0 never. */
  periodMs: number
  /** Never rejects. */
  send: (state: readonly string[]) => Promise<void>
}

export class NotifiedSupervisor implements Supervisor {
  readonly listenFd: number | undefined
  readonly #options: SupervisorOptions
  #timer: NodeJS.Timeout | undefined
  #isChecking = false

  constructor(options: SupervisorOptions) {
    this.listenFd = options.listenFd
    this.#options = options
  }

  ready(status: string): Promise<void> {
    return this.#options.send(['READY=1', `STATUS=${status}`])
  }

  watch(answers: () => Promise<boolean>): void {
    const { periodMs } = this.#options
    if (periodMs > 0) this.#timer ??= setInterval(() => void this.#beat(answers), periodMs / BEATS).unref()
  }

  stopping(): Promise<void> {
    return this.#options.send(['STOPPING=1', 'STATUS=Stopping'])
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  /** One at a time: what does not answer is not asked again, and no sign is given. */
  async #beat(answers: () => Promise<boolean>): Promise<void> {
    if (this.#isChecking) return
    this.#isChecking = true
    try {
      if (await answers()) await this.#options.send(['WATCHDOG=1'])
    } catch {
      // It has no answer, so there is no sign of life.
    } finally {
      this.#isChecking = false
    }
  }
}

/** By a program of systemd's own, since Node can't write to datagram sockets; where the one is, the other is. */
async function notify(address: string, path: string | undefined, state: readonly string[], log: Logger): Promise<void> {
  const { failed, shortMessage } = await execa('systemd-notify', state, {
    env: { NOTIFY_SOCKET: address, ...(path !== undefined && { PATH: path }) },
    extendEnv: false,
    stdin: 'ignore',
    timeout: SEND_MS,
    reject: false,
  })
  if (failed) log.warn({ reason: shortMessage }, 'the supervisor could not be told of the server')
}
