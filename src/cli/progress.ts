import type { Writable } from 'node:stream'
import type { Progress } from '../images/types.ts'

const BAR_WIDTH = 24
/** On a log, a step that takes long says so this often. */
const LOG_EVERY_MS = 5000

/** Shows progress: one line that is drawn over on a terminal, a line per step (and now and then within one) on a log. */
export function showProgress(stream: Writable): Progress & Disposable {
  const terminal = 'isTTY' in stream && stream.isTTY === true
  let step = ''
  let lastLine = 0
  const progress: Progress = (update) => {
    const percent = update.fraction === undefined ? '' : ` ${Math.round(update.fraction * 100)}%`
    if (terminal) {
      stream.write(
        `\r\u001b[K${bar(update.fraction)} ${update.step}${percent}${update.detail === undefined ? '' : ` – ${update.detail}`}`.slice(
          0,
          160,
        ),
      )
      return
    }
    const now = performance.now()
    if (update.step === step && now - lastLine < LOG_EVERY_MS) return
    stream.write(`${update.step}${percent} …\n`)
    step = update.step
    lastLine = now
  }
  return Object.assign(progress, {
    [Symbol.dispose]: () => {
      if (terminal) stream.write('\r\u001b[K')
    },
  })
}

function bar(fraction: number | undefined): string {
  const filled = Math.round((fraction ?? 0) * BAR_WIDTH)
  return `[${'█'.repeat(filled)}${'░'.repeat(BAR_WIDTH - filled)}]`
}
