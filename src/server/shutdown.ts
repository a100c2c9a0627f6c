import { VivariumError } from '../contracts/errors.ts'

/** The two steps of a server on its way out, as others hear of them. */
export class Shutdown {
  readonly #draining = new AbortController()
  readonly #ending = new AbortController()

  /** Aborts when nothing new is begun any more. */
  get draining(): AbortSignal {
    return this.#draining.signal
  }

  /** Aborts when nothing more will come in this process. */
  get ending(): AbortSignal {
    return this.#ending.signal
  }

  drain(): void {
    this.#draining.abort(new VivariumError('shutting_down', 'The server is shutting down: try again in a moment.'))
  }

  end(): void {
    const message = 'The server is shutting down and what was under way here with it: begin it again in a moment.'
    this.#ending.abort(new VivariumError('shutting_down', message))
  }
}
