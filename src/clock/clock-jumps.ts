/** The host's two clocks at one moment, in ms: the one on the wall can be set, the other only runs. */
export interface ClockReading {
  wallMs: number
  steadyMs: number
}

const readClocks = (): ClockReading => ({ wallMs: Date.now(), steadyMs: performance.now() })

/** Compares the host's clocks: how long something takes is told by the steady one alone, what day it is by the other. */
export class ClockJumps {
  readonly #read: () => ClockReading
  #last: ClockReading

  constructor(read: () => ClockReading = readClocks) {
    this.#read = read
    this.#last = read()
  }

  /** By how many ms the wall clock has been set forward (back: less than 0) since the last look. A host that slept counts as forward. */
  look(): number {
    const { wallMs, steadyMs } = this.#read()
    const jump = wallMs - this.#last.wallMs - (steadyMs - this.#last.steadyMs)
    this.#last = { wallMs, steadyMs }
    return jump
  }
}
