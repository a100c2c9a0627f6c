import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { toVivariumError } from '../contracts/errors.ts'
import { publish } from '../files/atomic.ts'
import { lockFile, tryLock } from '../files/lock.ts'
import type { FoundLeak } from '../reaper/types.ts'
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
  using _lock = await lockFile(lockOf(folder), { code: 'image_failed', timeoutMs: WAIT_MS, onWait, signal })
  if (existsSync(place)) return
  for (const work of workFolders(folder)) await removeWork(work)
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
    await removeWork(work)
    await rm(status, { force: true })
  }
}

/** What builds that were killed have left: whoever holds the lock is the only builder, and so are all of them where nobody does. */
export async function findBuildLeftovers(folder: string): Promise<FoundLeak[]> {
  const works = existsSync(folder) ? workFolders(folder) : []
  if (works.length === 0 || !isFree(folder)) return []
  const why = 'a guest image whose builder is gone'
  return works.map((work) => ({
    kind: 'folder',
    what: work,
    why,
    async remove() {
      using lock = tryLock(lockOf(folder))
      if (lock !== undefined) await removeWork(work) // else somebody builds, and has removed it first
    },
  }))
}

function isFree(folder: string): boolean {
  using lock = tryLock(lockOf(folder))
  return lock !== undefined
}

function lockOf(folder: string): string {
  return join(folder, 'build.lock')
}

function workFolders(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.startsWith(TEMPORARY))
    .map((name) => join(folder, name))
}

function removeWork(work: string): Promise<void> {
  return rm(work, { recursive: true, force: true, maxRetries: 5 })
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
