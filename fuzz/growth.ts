import { setImmediate as turn } from 'node:timers/promises'

const MIB = 1024 * 1024
/** Above noise, and soon exceeded by what is lost in every case. */
const MAX_HEAP_GROWTH_BYTES = 24 * MIB
/** Allocators give memory back late, if at all. */
const MAX_RSS_GROWTH_BYTES = 192 * MIB
/** Code is compiled and pools are filled meanwhile. */
const WARM_UP_SAMPLES = 3

interface Sample {
  heap: number
  rss: number
}

/** Tells whether memory grows from case to case, by what is left after garbage was collected (`--expose-gc`). */
export class Growth {
  #count = 0
  #before: Sample = { heap: 0, rss: 0 }

  /** Throws when too much more is in use than after the warm-up. */
  async check(): Promise<void> {
    const { heap, rss } = await sample()
    this.#count += 1
    if (this.#count <= WARM_UP_SAMPLES) {
      this.#before = { heap: Math.max(heap, this.#before.heap), rss: Math.max(rss, this.#before.rss) }
      return
    }
    const [heapGrowth, rssGrowth] = [heap - this.#before.heap, rss - this.#before.rss]
    if (heapGrowth > MAX_HEAP_GROWTH_BYTES) throw new Error(`the heap has grown by ${Math.round(heapGrowth / MIB)} MiB`)
    if (rssGrowth > MAX_RSS_GROWTH_BYTES) throw new Error(`the process has grown by ${Math.round(rssGrowth / MIB)} MiB`)
  }
}

async function sample(): Promise<Sample> {
  // What a collection finds in finalizers goes with the next.
  for (let round = 0; round < 2; round += 1) {
    globalThis.gc?.()
    await turn()
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  return { heap: heapUsed + external, rss }
}
