import type { Progress } from '../../images/types.ts'
import { orAborted } from '../or-aborted.ts'

interface Job<Result> {
  done: Promise<Result>
  stop: AbortController
  /** Those who wait for it, each with what it wants to hear. */
  waiting: Set<{ progress: Progress }>
}

/** Work that several may wait for and that is done once: it goes on until it is over, or nobody waits for it any more. */
export class SharedWork<Result> {
  readonly #jobs = new Map<string, Job<Result>>()
  /** All that is not over, also what nobody waits for any more. */
  readonly #running = new Set<Promise<unknown>>()

  /** The work named `key`, begun unless it is under way. Rejects as it does, or with the reason of `signal`. */
  async join(
    key: string,
    { progress = () => {}, signal }: { progress?: Progress; signal?: AbortSignal | undefined },
    work: (progress: Progress, signal: AbortSignal) => Promise<Result>,
  ): Promise<Result> {
    signal?.throwIfAborted()
    const job = this.#jobs.get(key) ?? this.#begin(key, work)
    const waiter = { progress }
    job.waiting.add(waiter)
    try {
      return await orAborted(job.done, signal)
    } finally {
      job.waiting.delete(waiter)
      if (job.waiting.size === 0) this.#abandon(key, job, signal?.reason)
    }
  }

  /** Ends all of it, and waits for that. */
  async end(reason: Error): Promise<void> {
    for (const [key, job] of this.#jobs) this.#abandon(key, job, reason)
    await Promise.allSettled(this.#running)
  }

  #begin(key: string, work: (progress: Progress, signal: AbortSignal) => Promise<Result>): Job<Result> {
    const stop = new AbortController()
    const waiting: Job<Result>['waiting'] = new Set()
    const onProgress: Progress = (step) => waiting.forEach(({ progress }) => progress(step))
    const done = work(onProgress, stop.signal).catch((error: unknown) => {
      stop.signal.throwIfAborted() // what fails in work that is ended fails because of that
      throw error
    })
    const job = { done, stop, waiting }
    this.#jobs.set(key, job)
    this.#running.add(done)
    const forget = () => {
      this.#running.delete(done)
      if (this.#jobs.get(key) === job) this.#jobs.delete(key)
    }
    done.then(forget, forget)
    return job
  }

  /** Whoever comes now begins anew. */
  #abandon(key: string, job: Job<Result>, reason: unknown): void {
    if (this.#jobs.get(key) === job) this.#jobs.delete(key)
    job.stop.abort(reason)
  }
}
