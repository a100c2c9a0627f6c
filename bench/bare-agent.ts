/** A bare machine with the guest agent in it, and the host's end of its link: what is left of a machine without an orchestrator. */
import { createGuestLink } from '../src/link/link.ts'
import type { GuestLink } from '../src/link/types.ts'
import { startBareMachine, type BareHost } from './bare-machine.ts'

/** Far above what a boot takes under software emulation. */
const TIME_SCALE = 8
const TIMEOUT_MS = 60_000

export interface BareAgent extends AsyncDisposable {
  /** Runs a program without arguments to its end; the first one waits for the boot. Rejects unless it succeeds. */
  exec(argv: string[]): Promise<void>
}

/** Starts the machine and does not wait for it: the first command does. */
export async function startBareAgent(host: BareHost): Promise<BareAgent> {
  await using stack = new AsyncDisposableStack()
  const link: GuestLink = stack.use(createGuestLink({ name: 'bench', timeScale: TIME_SCALE }))
  stack.use(await startBareMachine(host, host.image.initrd, (socket) => link.accept(socket)))
  const resources = stack.move()
  return {
    async exec(argv) {
      const { exit } = await link.exec({ argv, env: {}, cwd: '/', user: 'agent' }, { timeoutMs: TIMEOUT_MS })
      if (exit.code !== 0) throw new Error(`${argv.join(' ')} failed in the bare machine.`)
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}
