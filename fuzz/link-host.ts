import { performServerHandshake, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { dialSession, startTestHost, type TestHost } from '../src/link/testing.ts'
import { tampered } from './tamper.ts'

/** Short: a guest that says nothing costs a case all of it. */
const DEADLINES = {
  firstSessionMs: 5000,
  sessionMs: 5000,
  readyMs: 250,
  pingMs: 1000,
  callMs: 250,
  bulkMs: 250,
  idleMs: 100,
}

export type Answer = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void

/** A host's link, with guests on it that are played by a fuzz target. A link that was given up is replaced by another. */
export class LinkHost implements AsyncDisposable {
  #host: TestHost
  #isLost = false
  #isClosed = false

  private constructor(host: TestHost) {
    this.#host = host
    this.#watch(host)
  }

  static async open(): Promise<LinkHost> {
    return new LinkHost(await startTestHost({ deadlines: DEADLINES }))
  }

  get link(): TestHost['link'] {
    return this.#host.link
  }

  /** Connects a guest; all that it says passes through `tamper`. Resolves once its session begins, with its end. */
  async connect(answer: Answer, tamper = (chunk: Buffer) => chunk): Promise<{ ended: Promise<unknown>; end(): void }> {
    const socket = await this.#dial()
    const guest = performServerHandshake(tampered(socket, tamper))
    guest.on('error', () => undefined)
    guest.on('stream', (stream, headers) => {
      stream.on('error', () => undefined)
      // It may be over already.
      if (!stream.destroyed) answer(stream, headers)
    })
    guest.once('close', () => socket.destroy())
    socket.once('close', () => guest.destroy())
    // Not `once`, which an error would reject.
    return { ended: new Promise((resolve) => guest.once('close', resolve)), end: () => guest.destroy() }
  }

  /** Has a guest connected at all times. */
  async stayConnected(answer: Answer): Promise<void> {
    while (!this.#isClosed) await (await this.connect(answer)).ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    await this.#host[Symbol.asyncDispose]()
  }

  /** A connection on which HTTP/2 may begin. */
  async #dial(): Promise<Duplex> {
    for (;;) {
      if (this.#isLost && !this.#isClosed) await this.#renew()
      const dialled = await Promise.race([dialSession(this.#host), this.#host.link.lost])
      if (typeof dialled !== 'string') return dialled
    }
  }

  #watch(host: TestHost): void {
    this.#isLost = false
    void host.link.lost.then(() => (this.#isLost ||= this.#host === host))
  }

  async #renew(): Promise<void> {
    await this.#host[Symbol.asyncDispose]()
    this.#host = await startTestHost({ deadlines: DEADLINES })
    this.#watch(this.#host)
  }
}
