/**
 * A bare machine in which a shell sits at the control port, where the agent would be: the least that can start a process
 * in this guest and bring its output to the host.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { cpio } from '../src/images/cpio.ts'
import { PORT_NAMES } from '../src/link/constants.ts'
import { Arrival } from './arrival.ts'
import { startBareMachine, type BareHost } from './bare-machine.ts'

/** Ends every answer. Nothing that is measured prints it. */
const END = 4
const DEADLINE_MS = 120_000

/** In the place of the agent's supervisor, run by the same init: one line in, its output and END out. */
const SHELL = `export PATH=/usr/local/bin:/usr/bin:/bin
for port in /sys/class/virtio-ports/*; do
  if [ "$(cat "$port/name")" = ${PORT_NAMES.control} ]; then exec <>"/dev/\${port##*/}" >&0; fi
done
while read -r command; do
  eval "$command"
  printf '\\004'
done
`

/** Put before it: programs, the shell as well, lie at the same addresses each time they are started. */
const FIXED = `[ "$1" = fixed ] || exec setarch -R /bin/sh "$0" fixed
`

export interface BareShell extends AsyncDisposable {
  /** Runs one command line; resolves with how its output came in. Rejects when the machine ends, or does not answer in time. */
  run(command: string): Promise<Arrival>
}

/** Starts the machine and does not wait for it: the first command does. `fixed`: as the agent does where software emulates the machine. */
export async function startBareShell(host: BareHost, addresses: 'random' | 'fixed' = 'random'): Promise<BareShell> {
  await using stack = new AsyncDisposableStack()
  const dir = await mkdtemp(join(tmpdir(), 'vivarium-bare-'))
  stack.defer(() => rm(dir, { recursive: true, force: true }))
  const initrd = join(dir, 'initrd')
  // The kernel unpacks archives one after the other; a later file replaces an earlier one of its name.
  const content = Buffer.from(addresses === 'fixed' ? FIXED + SHELL : SHELL)
  const supervise = cpio([{ type: 'file', path: 'vivarium/supervise', mode: 0o755, content }])
  await writeFile(initrd, Buffer.concat([await readFile(host.image.initrd), supervise]))
  const dialled = Promise.withResolvers<Socket>()
  const machine = stack.use(await startBareMachine(host, initrd, dialled.resolve))
  const broken = machine.ended.then((how): never => {
    throw new Error(how)
  })
  broken.catch(() => {}) // heard by the command that runs, if one does
  const resources = stack.move()
  return {
    async run(command) {
      const socket = await Promise.race([dialled.promise, broken])
      return Promise.race([answer(socket, command), broken])
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

function answer(socket: Socket, command: string): Promise<Arrival> {
  return new Promise((resolve, reject) => {
    const arrival = new Arrival()
    const finish = () => {
      clearTimeout(timer)
      socket.off('data', onData)
    }
    const timer = setTimeout(() => {
      finish()
      reject(new Error(`The bare machine did not answer within ${DEADLINE_MS / 1000} s.`))
    }, DEADLINE_MS)
    const onData = (chunk: Buffer) => {
      arrival.add(chunk.length)
      if (chunk.at(-1) !== END) return
      finish()
      resolve(arrival)
    }
    socket.on('data', onData)
    socket.write(`${command}\n`)
  })
}
