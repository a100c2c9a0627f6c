const CHECK_EVERY_MS = 1000

/** Calls `onIdle` once when `isBusy` has said no for `seconds` without a break; never where `seconds` is 0. */
export function watchIdle(seconds: number, isBusy: () => boolean, onIdle: () => void): Disposable {
  let lastActivity = performance.now()
  const timer = setInterval(() => {
    if (isBusy()) lastActivity = performance.now()
    if (seconds === 0 || performance.now() - lastActivity < seconds * 1000) return
    clearInterval(timer)
    onIdle()
  }, CHECK_EVERY_MS)
  timer.unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
