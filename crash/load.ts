import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { createClient } from '../src/client/client.ts'
import type { TaskEvent } from '../src/contracts/event.ts'
import { isFinal } from '../src/contracts/task.ts'
import { findEndpoint, type Endpoint } from '../src/server/endpoint.ts'
import { seeded } from './random.ts'
import { someWork, type Work } from './work.ts'

/** A task that the server has answered for. */
export interface Accepted {
  id: string
  work: Work
}

const RETRY_MS = 50

/** Clients that keep an orchestrator busy and don't mind that it is killed all the time: they come back. */
export class Load {
  readonly accepted: Accepted[] = []
  /** What readers saw that they should not have, a sentence each. */
  readonly violations: string[] = []
  readonly #home: string
  readonly #seed: number
  readonly #giveUp = new AbortController()
  readonly #readers: Promise<void>[] = []
  #reading = 0
  #isStopping = false
  #clients: Promise<void>[] = []

  constructor(home: string, seed: number) {
    this.#home = home
    this.#seed = seed
  }

  /** Starts clients that submit one task after the other, so that about `tasks` are unfinished at any time. */
  start(tasks: number): void {
    this.#clients = [1, 2, 3].map((client) => this.#submitAll(client, tasks))
  }

  /** Submits nothing more; resolves when every task that was accepted has been read to its end. Rejects after `deadlineMs`. */
  async finish(deadlineMs: number): Promise<void> {
    this.#isStopping = true
    const late = setTimeout(() => this.#giveUp.abort(new Error('Tasks did not end in time.')), deadlineMs)
    await Promise.all(this.#clients)
    await Promise.all(this.#readers)
    clearTimeout(late)
    this.#giveUp.signal.throwIfAborted()
  }

  async #submitAll(client: number, tasks: number): Promise<void> {
    // Each client has numbers of its own, so that what it sends does not depend on when.
    const random = seeded(this.#seed + client)
    for (let n = 1; !this.#isStopping; n += 1) {
      while (this.#reading >= tasks && !this.#isStopping) await sleep(RETRY_MS)
      const accepted = await this.#submit(someWork(random, `client ${client}, task ${n}`))
      if (accepted === undefined) return
      this.accepted.push(accepted)
      this.#reading += 1
      this.#readers.push(this.#read(accepted.id, this.accepted.length % 2 === 0).finally(() => (this.#reading -= 1)))
    }
  }

  /** Until there is an answer: what was sent and not answered may have been taken all the same. Undefined when the load stops. */
  async #submit(work: Work): Promise<Accepted | undefined> {
    while (!this.#giveUp.signal.aborted) {
      const server = await this.#server()
      if (server === undefined) return undefined
      try {
        const client = createClient({ url: server.url, apiKey: server.key })
        const { id } = await client.tasks.submit(work.request, { idempotencyKey: work.key })
        return { id, work }
      } catch {
        await sleep(RETRY_MS) // killed, starting, or full
      }
    }
    return undefined
  }

  /** Follows a task to its end over any number of connections, each going on where the one before broke off. */
  async #read(id: string, bySocket: boolean): Promise<void> {
    const reader = { last: 0, hasEnded: false }
    const take = (event: TaskEvent) => {
      if (event.seq !== reader.last + 1 || reader.hasEnded)
        this.violations.push(`A reader of ${id} got event ${event.seq} after ${reader.last}.`)
      reader.last = event.seq
      if (event.type === 'status' && isFinal(event.status)) reader.hasEnded = true
    }
    while (!reader.hasEnded && !this.#giveUp.signal.aborted) {
      const server = await this.#server()
      if (server === undefined) return
      const from = reader.last + 1
      await (bySocket ? readSocket(server, id, from, take) : readStream(server, id, from, take)).catch(() => {}) // it comes back
      if (!reader.hasEnded) await sleep(RETRY_MS)
    }
  }

  /** Undefined when the load gives up. */
  async #server(): Promise<Endpoint | undefined> {
    while (!this.#giveUp.signal.aborted) {
      const server = findEndpoint(this.#home)
      if (server !== undefined) return server
      await sleep(RETRY_MS)
    }
    return undefined
  }
}

type Take = (event: TaskEvent) => void

async function readSocket({ url, key }: Endpoint, id: string, from: number, take: Take): Promise<void> {
  const address = `${url.replace('http', 'ws')}/api/v1/tasks/${id}/stream?from=${from}`
  const socket = new WebSocket(address, { headers: { authorization: `Bearer ${key}` } })
  socket.on('error', () => {}) // 'close' follows
  socket.on('message', (data) => take(JSON.parse(String(data)) as TaskEvent))
  await once(socket, 'close')
}

async function readStream({ url, key }: Endpoint, id: string, from: number, take: Take): Promise<void> {
  for await (const event of createClient({ url, apiKey: key }).tasks.follow(id, { from })) take(event)
}
