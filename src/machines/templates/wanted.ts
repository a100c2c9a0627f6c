/** Any user can ask for any size, each of which would cost a build and a place on the disk. */
const MAX_WANTED = 8

/** Which plain template would have been of use. */
export interface WantedShape {
  memoryMib: number
  vcpus: number
}

/** Shapes that machines were booted in for want of a template, first come first. Bounded: more are not remembered. */
export class Wanted {
  readonly #shapes = new Map<string, WantedShape>()

  add({ memoryMib, vcpus }: WantedShape): void {
    if (this.#shapes.size < MAX_WANTED) this.#shapes.set(`${vcpus}x${memoryMib}`, { memoryMib, vcpus })
  }

  /** The next one, which is not wanted any more then. */
  take(): WantedShape | undefined {
    const [next] = this.#shapes
    if (next === undefined) return undefined
    this.#shapes.delete(next[0])
    return next[1]
  }
}
