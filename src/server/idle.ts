/** Watches for a server that nobody needs any more. */
export interface IdleWatch extends Disposable {
  /** Counts a request as activity while it is answered. */
  track<T>(work: () => Promise<T> | T): Promise<T>
}

const CHECK_EVERY_MS = 1000

/** Calls `onIdle` once when nothing was tracked and `isBusy` said no for `seconds`; never where `seconds` is 0. */
export function watchIdle(seconds: number, isBusy: () => boolean, onIdle: () => void): IdleWatch {
  let underWay = 0
  let lastActivity = performance.now()
  const timer = setInterval(() => {
    if (underWay > 0 || isBusy()) lastActivity = performance.now()
    if (seconds === 0 || performance.now() - lastActivity < seconds * 1000) return
    clearInterval(timer)
    onIdle()
  }, CHECK_EVERY_MS)
  timer.unref()
  return {
    async track(work) {
      underWay += 1
      try {
        return await work()
      } finally {
        underWay -= 1
        lastActivity = performance.now()
      }
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}
