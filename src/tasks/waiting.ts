/** Milliseconds since the epoch by a clock that nobody sets. */
export function elapsedMs(): number {
  return performance.timeOrigin + performance.now()
}

/** Resolves after `ms`, or at once when `signal` aborts; never rejects. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) return resolve()
    const done = () => {
      clearTimeout(timeout)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timeout = setTimeout(done, ms)
    signal?.addEventListener('abort', done)
  })
}

/** Calls `action` when `signal` aborts (at once if it has), unless disposed of before. */
export function onAbort(signal: AbortSignal, action: () => void): Disposable {
  if (signal.aborted) action()
  else signal.addEventListener('abort', action, { once: true })
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', action) }
}

/** Whether a promise has settled by now. */
export async function hasSettled(promise: Promise<unknown>): Promise<boolean> {
  const done = promise.then(
    () => true,
    () => true,
  )
  return Promise.race([done, new Promise<false>((resolve) => setImmediate(resolve, false))])
}
