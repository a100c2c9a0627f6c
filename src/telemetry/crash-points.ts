/**
 * Steps between which the orchestrator may be killed, by name. The crash suite (`npm run crash-test`) kills it at each of them,
 * since random moments rarely hit the few microseconds that matter.
 */
export const CRASH_POINTS = [
  'task stored',
  'task queued',
  'machine journaled',
  'machine folders made',
  'machine created',
  'machine recorded',
  'events stored',
  'payload staged',
  'payload placed',
  'run journaled',
  'run started',
  'checkpoint stored',
  'exit seen',
  'run ended',
  'ending stored',
  'last event stored',
  'status stored',
  'blob staged',
  'blob placed',
  'results collected',
  'results recorded',
  'run collected',
  'machine destroyed',
  'machine forgotten',
  'suspend saved',
  'suspend recorded',
  'resume journaled',
  'resume taken',
  'template saved',
  'template placed',
  'model request journaled',
  'model request sent',
  'model request answered',
  'model request recorded',
] as const
export type CrashPoint = (typeof CRASH_POINTS)[number]

/** `NAME`, or `NAME:N` for the N-th time that this process comes by. */
const ARMED = process.env['VIVARIUM_TEST_CRASH_AT']

/**
 * A step of which the crash suite makes sure that a kill right after it loses nothing. Does nothing unless the environment names
 * it in `VIVARIUM_TEST_CRASH_AT`: then this process kills itself, as nobody can catch.
 */
export const crashPoint: (name: CrashPoint) => void = ARMED ? armed(ARMED) : () => {}

function armed(setting: string): (name: CrashPoint) => void {
  const [name, times = '1'] = setting.split(':')
  let left = Number(times)
  return (passed) => {
    if (passed !== name) return
    left -= 1
    if (left === 0) process.kill(process.pid, 'SIGKILL')
  }
}
