import type { ShellRequest, TerminalSize } from '../../contracts/shell.ts'
import type { Shell, ShellOutput } from '../../machines/types.ts'

/** A process that repeats what is typed, says how large its terminal became, and ends with 3 at a Ctrl-D or the end of its input. */
export class FakeShell implements Shell {
  readonly request: ShellRequest
  readonly output: AsyncIterable<ShellOutput>
  typed = ''
  /** How many pieces of output were taken. */
  taken = 0
  /** What a write waits for. */
  reading: Promise<unknown> = Promise.resolve()
  readonly closed: Promise<void>
  readonly #close: () => void
  readonly #pieces: ShellOutput[] = []
  #more = Promise.withResolvers<void>()

  constructor(request: ShellRequest) {
    this.request = request
    const { promise, resolve } = Promise.withResolvers<void>()
    this.closed = promise
    this.#close = resolve
    this.output = this.#follow()
  }

  print(text: string | Buffer, kind: 'stdout' | 'stderr' = 'stdout'): void {
    this.#push({ kind, data: Buffer.from(text) })
  }

  exit(exitCode: number): void {
    this.#push({ kind: 'exit', exitCode })
  }

  async write(data: Buffer): Promise<void> {
    await this.reading
    this.typed += data.toString()
    this.print(data)
    if (data.includes(4)) this.exit(3)
  }

  async end(): Promise<void> {
    this.exit(3)
  }

  async resize({ rows, cols }: TerminalSize): Promise<void> {
    this.print(`${rows}x${cols}\r\n`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#close()
  }

  #push(piece: ShellOutput): void {
    this.#pieces.push(piece)
    this.#more.resolve()
    this.#more = Promise.withResolvers()
  }

  async *#follow(): AsyncGenerator<ShellOutput> {
    for (;;) {
      const piece = this.#pieces[this.taken]
      if (piece === undefined) await this.#more.promise
      else {
        this.taken += 1
        yield piece
      }
    }
  }
}
