import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { fileURLToPath } from 'node:url'
import { WebSocket } from 'ws'
import type { Play } from '../test/scale/simulated-machines.ts'
import { now } from '../test/scale/simulated-machines.ts'

const SERVER = fileURLToPath(new URL('bare-server.ts', import.meta.url))

/** A server without any of the product, in a process of its own. */
export interface BareServer extends AsyncDisposable {
  /** So many WebSocket readers of lines that the server prints as a simulated agent does: ms from each print to its reader. */
  latencies(readers: number, play: Play): Promise<number[]>
  /** Opens readers that nothing is sent to; they stay. */
  hold(readers: number, by: 'websocket' | 'sse'): Promise<void>
  /** What the server takes, in MiB. */
  memoryMib(): number
}

export async function startBareServer(): Promise<BareServer> {
  const server = fork(SERVER, { execArgv: [] })
  const [port] = (await once(server, 'message')) as [number]
  /** Ends each connection that stays. */
  const held: (() => void)[] = []

  async function latenciesOfOne({ lines, everyMs, bytes }: Play): Promise<number[]> {
    const latencies: number[] = []
    const socket = new WebSocket(`ws://127.0.0.1:${port}/?lines=${lines}&everyMs=${everyMs}&bytes=${bytes}`)
    socket.on('message', (data) => {
      const { text } = JSON.parse(String(data)) as { text: string }
      latencies.push(now() - Number(text.split(' ')[1]))
    })
    await once(socket, 'close')
    return latencies
  }

  async function holdOne(by: 'websocket' | 'sse'): Promise<void> {
    if (by === 'websocket') {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`)
      await once(socket, 'open')
      held.push(() => socket.terminate())
      return
    }
    const [response] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [IncomingMessage]
    response.on('error', () => {}).resume() // the server goes first
    held.push(() => response.destroy())
  }

  return {
    latencies: async (readers, play) =>
      (await Promise.all(Array.from({ length: readers }, () => latenciesOfOne(play)))).flat(),
    async hold(readers, by) {
      for (let left = readers; left > 0; left -= 100)
        await Promise.all(Array.from({ length: Math.min(left, 100) }, () => holdOne(by)))
    },
    memoryMib: () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]) / 1024,
    async [Symbol.asyncDispose]() {
      for (const leave of held) leave()
      const gone = once(server, 'exit')
      server.kill('SIGKILL')
      await gone
    },
  }
}
