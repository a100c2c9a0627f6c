import { PassThrough, Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pack } from 'tar-stream'
import { VivariumError } from '../../contracts/errors.ts'
import type { Change, ExecExit, ExecOutput, ExecResult, ExecSpec, GuestLink } from '../../link/types.ts'

const EXITED: ExecExit = { code: 0, signal: null, outOfMemory: false }

/** A process of a fake guest, played by the test. */
export class FakeProcess {
  readonly spec: ExecSpec
  readonly signals: string[] = []
  readonly stdin = Promise.withResolvers<string>()
  /** What a signal does; by default the process ends by it. */
  onSignal = (signal: string) => this.end({ code: null, signal, outOfMemory: false })
  onInput: (data: string) => void = () => {}
  readonly #pieces: ExecOutput[] = []
  #wake = Promise.withResolvers<void>()
  #next = 0
  hasExited = false

  constructor(spec: ExecSpec) {
    this.spec = spec
  }

  /** The test has all of stdin when it is closed; what is written again is the same. */
  feed(data: string, end: boolean): void {
    this.onInput(data)
    if (end) this.stdin.resolve(data)
  }

  print(text: string | Buffer, kind: 'stdout' | 'stderr' = 'stdout'): void {
    this.#push({ kind, data: Buffer.from(text), next: (this.#next += 1) })
  }

  end(exit: Partial<ExecExit> = {}): void {
    if (this.hasExited) return
    this.hasExited = true
    this.#push({ kind: 'exit', exit: { ...EXITED, ...exit }, next: (this.#next += 1) })
  }

  /** What nobody has to be told again: pieces before this offset. */
  acknowledged = 0

  /** From `from` on, for each reader. */
  async *output(from: number, signal: AbortSignal | undefined, gone: Promise<string>): AsyncGenerator<ExecOutput> {
    const stopped = new Promise<never>((_, reject) => {
      signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
      void gone.then((why) => reject(new VivariumError('guest_lost', why)))
    })
    stopped.catch(() => {})
    for (let at = from; ;) {
      signal?.throwIfAborted()
      const piece = this.#pieces[at]
      if (piece === undefined) {
        await Promise.race([this.#wake.promise, stopped])
        continue
      }
      at += 1
      yield piece
      if (piece.kind === 'exit') return
    }
  }

  #push(piece: ExecOutput): void {
    this.#pieces.push(piece)
    this.#wake.resolve()
    this.#wake = Promise.withResolvers()
  }
}

/** The link to a guest that is played by the test: by default its agent prints "hello" and ends well. */
export class FakeGuest {
  readonly gone = Promise.withResolvers<string>()
  readonly files = new Map<string, Buffer>()
  readonly processes = new Map<string, FakeProcess>()
  readonly execs: string[][] = []
  readonly baselines: { git: boolean }[] = []
  changes: Change[] = []
  patch: string | undefined
  uploaded: Buffer | undefined
  /** Archives that were unpacked: folder and content. */
  readonly unpacked: string[] = []
  /** Plays the agent. */
  play: (process: FakeProcess) => void | Promise<void> = (process) => {
    process.print('hello\n')
    process.end()
  }
  /** Plays short commands. */
  exec: (argv: string[]) => Partial<ExecResult> | Promise<Partial<ExecResult>> = () => ({})
  /** The answer to `getArchive`; by default the files that were asked for. */
  tar: (paths: string[]) => Readable = (paths) => this.#packed(paths)
  /** The answer to `getArchive` for whole folders. */
  archive: (root: string, paths: string[]) => Buffer = (root, paths) => Buffer.from(`tar of ${root} ${paths.join(' ')}`)
  /** Called when files are asked for. */
  onChanges: () => Promise<void> = async () => {}

  /** A file of the workspace that has changed. */
  write(path: string, content: string | Buffer): void {
    const bytes = Buffer.from(content)
    this.files.set(`/workspace/${path}`, bytes)
    this.changes.push({ path, kind: 'created', type: 'file', size: bytes.length })
  }

  lose(why: string): void {
    this.gone.resolve(why)
  }

  link(): GuestLink {
    const unused = () => {
      throw new Error('not played')
    }
    return {
      lost: this.gone.promise,
      hello: unused,
      accept: unused,
      park: unused,
      wake: unused,
      halt: unused,
      resize: unused,
      start: async (id, spec) => {
        if (this.processes.has(id)) return
        const process = new FakeProcess(spec)
        this.processes.set(id, process)
        void this.play(process)
      },
      output: (id, from, signal) => this.#process(id).output(from, signal, this.gone.promise),
      keptOutput: (id, from, signal) => {
        const process = this.#process(id)
        const acks = { taken: (offset: number) => void (process.acknowledged = offset) }
        return { pieces: process.output(from, signal, this.gone.promise), acks }
      },
      input: async (id, _at, data, end) => this.#process(id).feed(data.toString(), end),
      kill: async (id, signal) => {
        const process = this.#process(id)
        if (process.hasExited) return
        process.signals.push(signal)
        process.onSignal(signal)
      },
      exec: async (spec) => {
        this.execs.push(spec.argv)
        const result = await this.exec(spec.argv)
        return {
          exit: EXITED,
          stdout: Buffer.alloc(0),
          stderr: Buffer.alloc(0),
          truncated: false,
          timedOut: false,
          ...result,
        }
      },
      readFile: async (path) => {
        const content = this.files.get(path)
        if (content === undefined) throw new VivariumError('not_found', `${path} is not there`)
        return { size: content.length, body: Readable.from([content]) }
      },
      writeFile: async (path, content) => {
        this.files.set(path, Buffer.isBuffer(content) ? content : await buffer(content))
      },
      putArchive: async (path, tar) => {
        this.uploaded = await buffer(tar)
        this.unpacked.push(`${path}: ${this.uploaded.toString()}`)
      },
      tree: async () => {
        const entries = [...this.files].filter(([path]) => path.startsWith('/workspace/'))
        const type = 'file' as const
        return {
          entries: entries.map(([path, { length: size }]) => ({ path, size, type, mode: 0o644 })),
          truncated: false,
        }
      },
      getArchive: async ({ root, paths, recursive }) =>
        recursive === true ? Readable.from([this.archive(root, paths)]) : this.tar(paths),
      baseline: async ({ git }) => {
        this.baselines.push({ git })
      },
      changes: async ({ signal }) => {
        await Promise.race([this.onChanges(), rejected(signal)])
        return { changes: this.changes, skipped: 0, truncated: false }
      },
      patch: async () => (this.patch === undefined ? undefined : Readable.from([this.patch])),
      [Symbol.asyncDispose]: async () => {},
    }
  }

  #process(id: string): FakeProcess {
    const process = this.processes.get(id)
    if (process === undefined) throw new VivariumError('not_found', `no process ${id}`)
    return process
  }

  #packed(paths: string[]): Readable {
    const tar = pack()
    for (const path of paths) {
      const content = this.files.get(`/workspace/${path}`)
      if (content !== undefined) tar.entry({ name: path }, content)
    }
    tar.finalize()
    return tar.pipe(new PassThrough())
  }
}

function rejected(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true })
  })
}
