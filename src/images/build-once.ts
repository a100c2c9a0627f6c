import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { toVivariumError } from '../contracts/errors.ts'
import { publish } from '../files/atomic.ts'
import { lockFile } from '../files/lock.ts'
import type { Progress } from './types.ts'

/** A build takes minutes on a slow mirror; a process that waits longer than this for another one's build gives up. */
const WAIT_MS = 45 * 60_000
const TEMPORARY = '.build-'

export interface OnceOptions {
  /** Holds the images, the lock and the folders of running builds. */
  folder: string
  /** Where the finished image goes: a folder in `folder`. */
  place: string
  progress: Progress
  signal: AbortSignal | undefined
  /** Builds in the empty folder `work` and returns the finished folder, which lies in it. */
  build(work: string, progress: Progress): Promise<string>
}

/**
 * Sees to it that `place` exists. Of several processes that want it at once, one builds; the others wait and report its
 * progress. A build that fails or is killed leaves nothing at `place`; what a killed one left in its own folder is removed by
 * the next. Rejects with `image_failed`, or with the reason of `signal`.
 */
export async function buildOnce({ folder, place, progress, signal, build }: OnceOptions): Promise<void> {
  if (existsSync(place)) return
  await mkdir(folder, { recursive: true, mode: 0o755 })
  const status = join(folder, 'build.json')
  const onWait = () => progress({ ...readStatus(status), detail: 'another process is building' })
  using _lock = await lockFile(join(folder, 'build.lock'), { code: 'image_failed', timeoutMs: WAIT_MS, onWait, signal })
  if (existsSync(place)) return
  await removeLeftovers(folder)
  const work = join(folder, `${TEMPORARY}${process.pid}`)
  await mkdir(work, { mode: 0o755 })
  try {
    const finished = await build(work, (update) => {
      writeFileSync(status, JSON.stringify(update))
      progress(update)
    })
    await publish(finished, place, 0o755)
  } catch (error) {
    signal?.throwIfAborted()
    throw toVivariumError(error, 'image_failed')
  } finally {
    await rm(work, { recursive: true, force: true, maxRetries: 5 })
    await rm(status, { force: true })
  }
}

/** Folders of builds that were killed: whoever holds the lock is the only builder, so every one of them is dead. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of readdirSync(folder)) {
    if (name.startsWith(TEMPORARY)) await rm(join(folder, name), { recursive: true, force: true, maxRetries: 5 })
  }
}

const Status = z.object({ step: z.string(), fraction: z.number().optional() })

function readStatus(path: string): { step: string; fraction?: number } {
  const waiting = { step: 'waiting for another build' }
  try {
    const { step, fraction } = Status.parse(JSON.parse(readFileSync(path, 'utf8')))
    return fraction === undefined ? { step } : { step, fraction }
  } catch {
    return waiting // not written yet, or being written just now
  }
}
