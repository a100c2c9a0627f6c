import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Random } from './random.ts'
import type { Target } from './target.ts'

const PLAYER = fileURLToPath(new URL('player.ts', import.meta.url))
/** Where the inputs of failed cases are kept. */
const FINDINGS = fileURLToPath(new URL('findings', import.meta.url))
/** A case takes milliseconds. Time in which the player waits for a processor does not count. */
const CASE_DEADLINE_MS = 30_000
const WATCH_EVERY_MS = 500
const MAX_STDERR = 8000

export interface Result {
  target: string
  cases: number
  ms: number
  /** Undefined where everything was right. */
  failure: Failure | undefined
}

export interface Failure {
  /** Undefined for an input that came from a file. */
  number: number | undefined
  /** What the player's process said, or how it ended. */
  reason: string
  /** The file that holds the input. */
  file: string
}

/** Plays a target's cases from `first` on for `seconds`; one at least. */
export async function fuzz(
  target: Target,
  { seed, first, seconds }: { seed: string; first: number; seconds: number },
): Promise<Result> {
  const { reason, last, ms } = await play([target.name], [seed, String(first), String(seconds)])
  const number = last ?? first
  const result = { target: target.name, cases: number - first + 1, ms, failure: undefined }
  if (reason === undefined) return result
  mkdirSync(FINDINGS, { recursive: true })
  const file = join(FINDINGS, `${target.name}-${seed}-${number}`)
  writeFileSync(file, target.generate(new Random(seed, target.name, number)))
  return { ...result, failure: { number, reason, file } }
}

/** Plays an input that was kept. */
export async function replayFile(target: Target, file: string): Promise<Result> {
  const { reason, ms } = await play([target.name], [file])
  const failure = reason === undefined ? undefined : { number: undefined, reason, file }
  return { target: target.name, cases: 1, ms, failure }
}

/** How long a process has been ready to run, and others ran (proc(5), `schedstat`); 0 once it is gone, or where the kernel does not count. */
function waitedMs(pid: number | undefined): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6
  } catch {
    return 0
  }
}

/** Runs a player to its end, or until it plays one case for too long. `last` is the number of the last case it began. */
async function play(before: string[], after: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-fuzz-'))
  const progress = join(folder, 'progress')
  writeFileSync(progress, '')
  const began = performance.now()
  const player = spawn(process.execPath, ['--expose-gc', PLAYER, ...before, progress, ...after], {
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  let stderr = ''
  player.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-MAX_STDERR)))
  let seen = ''
  let seenAt = performance.now()
  let hangs = false
  const watch = setInterval(() => {
    if (player.exitCode !== null || player.signalCode !== null) return
    const now = readFileSync(progress, 'utf8')
    const ownTime = performance.now() - waitedMs(player.pid)
    if (now !== seen) seenAt = ownTime
    seen = now
    if (ownTime - seenAt < CASE_DEADLINE_MS) return
    hangs = true
    player.kill('SIGKILL')
  }, WATCH_EVERY_MS)
  try {
    const [code, signal] = (await once(player, 'close')) as [number | null, string | null]
    const text = readFileSync(progress, 'utf8').trim()
    const last = text === '' ? undefined : Number(text)
    const ended = hangs ? `It hangs: no end after ${CASE_DEADLINE_MS / 1000} s.` : `It ended with ${signal ?? code}.`
    return { reason: code === 0 ? undefined : `${stderr.trim()}\n${ended}`.trim(), last, ms: performance.now() - began }
  } finally {
    clearInterval(watch)
    rmSync(folder, { recursive: true })
  }
}
