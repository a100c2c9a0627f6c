import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** Where a restored data folder is put together, inside the one it is for: on the same disk, whatever is mounted where. */
export const STAGING = 'restoring'

const MARKER = 'restore.json'

/** A swap that has been decided: whoever finds it, ends it. */
const Swap = z.object({
  /** `out`: what was there is moved aside, nothing of the new is in place. `in`: the new is moved in. */
  phase: z.enum(['out', 'in']),
  /** Name of the folder that takes what was there. */
  aside: z.string(),
  entries: z.array(z.string()),
})
type Swap = z.infer<typeof Swap>

/** Puts the entries that lie in the staging folder in the place of those in the data folder, which go to the folder `aside`. */
export function swapIn(home: string, aside: string, entries: string[]): void {
  write(home, { phase: 'out', aside, entries })
  completeSwap(home)
}

/**
 * Ends a swap that was interrupted, however often; call it while the data folder is locked. Removes what is left of a restore that was
 * not decided.
 */
export function completeSwap(home: string): void {
  const swap = read(home)
  if (swap !== undefined) {
    if (swap.phase === 'out') {
      move(home, join(home, swap.aside), swap.entries)
      write(home, { ...swap, phase: 'in' })
    }
    move(join(home, STAGING), home, swap.entries)
    rmSync(join(home, MARKER))
    sync(home)
  }
  rmSync(join(home, STAGING), { recursive: true, force: true })
}

function move(from: string, to: string, entries: string[]): void {
  mkdirSync(to, { recursive: true, mode: 0o700 })
  for (const entry of entries) if (existsSync(join(from, entry))) renameSync(join(from, entry), join(to, entry))
  sync(to)
  sync(from)
}

function read(home: string): Swap | undefined {
  if (!existsSync(join(home, MARKER))) return undefined
  return Swap.parse(JSON.parse(readFileSync(join(home, MARKER), 'utf8')))
}

function write(home: string, swap: Swap): void {
  const path = join(home, MARKER)
  writeFileSync(`${path}.tmp`, JSON.stringify(swap), { mode: 0o600, flush: true })
  renameSync(`${path}.tmp`, path)
  sync(home)
}

function sync(folder: string): void {
  const fd = openSync(folder, 'r')
  fsyncSync(fd)
  closeSync(fd)
}
