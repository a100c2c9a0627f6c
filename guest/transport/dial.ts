import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect, Socket } from 'node:net'
import { join } from 'node:path'
import { PORT_NAMES } from '../../src/link/constants.ts'
import type { AgentOptions } from '../options.ts'

export type StreamName = keyof typeof PORT_NAMES

/** Opens one of the two streams to the host. Rejects when that fails; called again later. */
export type Dial = () => Promise<Socket>

const PORTS = '/sys/class/virtio-ports'
/** How long a bridge may take to pass on what it was given, after its socket has closed: its port may be stuck. */
const BRIDGE_END_MS = 500

/** The device of a named virtio-serial port. By name, never by number: `vport0p1` is another one after the next boot. */
function findDevice(name: string): string {
  for (const port of readdirSync(PORTS))
    if (readFileSync(join(PORTS, port, 'name'), 'utf8').trim() === name) return join('/dev', port)
  throw new Error(`this machine has no virtio-serial port ${name}`)
}

/**
 * Bridges a device and a socket pair by socat: Node has no event-driven reading of a character device, and HTTP/2 wants a
 * real socket. The port can be open only once, so a bridge ends with its socket, and the next waits for that. `-t`: after
 * one direction has ended nothing is to come from the other.
 */
function dialDevice(name: StreamName): Dial {
  let gone: Promise<unknown> = Promise.resolve()
  return async () => {
    await gone
    const device = findDevice(PORT_NAMES[name])
    const socat = spawn('socat', ['-b65536', '-t0.01', `OPEN:${device},rdwr`, 'FD:3'], {
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    })
    let killing: NodeJS.Timeout | undefined
    gone = new Promise<void>((resolve) => {
      socat.once('exit', () => resolve()).once('error', () => resolve())
    }).then(() => clearTimeout(killing))
    const socket = socat.stdio[3]
    if (!(socket instanceof Socket)) throw new Error('socat could not be started')
    socket.on('error', () => undefined)
    socket.once('close', () => (killing = setTimeout(() => socat.kill('SIGKILL'), BRIDGE_END_MS)))
    await once(socat, 'spawn')
    return socket
  }
}

function dialSocket(path: string): Dial {
  return async () => {
    const socket = connect(path)
    await once(socket, 'connect')
    return socket
  }
}

/** How to reach the host on one stream. */
export function dialer(transport: AgentOptions['transport'], name: StreamName): Dial {
  return transport.kind === 'device' ? dialDevice(name) : dialSocket(join(transport.folder, `${name}.sock`))
}
