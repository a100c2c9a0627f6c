import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { buildOnce } from './build-once.ts'
import type { Progress } from './types.ts'

let folder: string
let place: string
beforeEach(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'vivarium-images-')), 'images')
  place = join(folder, 'key')
})
afterEach(() => rmSync(join(folder, '..'), { recursive: true }))

async function build(work: string): Promise<string> {
  mkdirSync(join(work, 'image'))
  writeFileSync(join(work, 'image/root.ext4'), 'whole')
  return join(work, 'image')
}

const once_ = (over: Partial<Parameters<typeof buildOnce>[0]> = {}) =>
  buildOnce({ folder, place, progress: () => {}, signal: undefined, build, ...over })

/** A process that starts a build, says so, and never comes to its end. Its tool is a `sleep` of `seconds`. */
function slowBuilder(seconds: string) {
  const module = (name: string) => JSON.stringify(fileURLToPath(new URL(name, import.meta.url)))
  const script = `
    const { buildOnce } = await import(${module('build-once.ts')})
    const { run } = await import(${module('run.ts')})
    const { mkdirSync, writeFileSync } = await import('node:fs')
    await buildOnce({ folder: ${JSON.stringify(folder)}, place: ${JSON.stringify(place)}, progress() {}, signal: undefined,
      async build(work, progress) {
        mkdirSync(work + '/image')
        writeFileSync(work + '/image/root.ext4', 'half')
        progress({ step: 'slow step', fraction: 0.5 })
        const ended = run('sh', ['-c', 'sleep ${seconds} & echo begun; wait'], { signal: undefined, onLine: () => console.log('begun') })
        await ended
        return work + '/image'
      } })`
  return spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
}

/** Whether any process runs with exactly this as its last argument. */
function isRunning(argument: string): boolean {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').endsWith(`sleep\0${argument}\0`)
      } catch {
        return false // it ended meanwhile
      }
    })
}

test('a finished build is there whole, and is not built again', async () => {
  const counted = vi.fn(build)
  await once_({ build: counted })
  await once_({ build: counted })
  expect(counted).toHaveBeenCalledTimes(1)
  expect(readFileSync(join(place, 'root.ext4'), 'utf8')).toBe('whole')
  expect(readdirSync(folder).toSorted()).toEqual(['build.lock', 'key'])
})

test('a failed build leaves nothing, and says why', async () => {
  const failing = async (work: string): Promise<string> => {
    await build(work)
    throw new Error('the mirror is gone')
  }
  await expect(once_({ build: failing })).rejects.toMatchObject({ code: 'image_failed', message: 'the mirror is gone' })
  expect(readdirSync(folder)).toEqual(['build.lock'])
  await once_()
  expect(existsSync(place)).toBe(true)
})

test.skipIf(process.getuid?.() !== 0)(
  'a killed build leaves nothing usable and nothing running; the next one succeeds',
  async () => {
    const seconds = `${100_000 + process.pid}`
    const builder = slowBuilder(seconds)
    await once(builder.stdout, 'data')
    expect(isRunning(seconds)).toBe(true)
    builder.kill('SIGKILL')
    await once(builder, 'exit')
    await vi.waitUntil(() => !isRunning(seconds), { timeout: 10_000 })
    expect(existsSync(place)).toBe(false)
    await once_()
    expect(readFileSync(join(place, 'root.ext4'), 'utf8')).toBe('whole')
    expect(readdirSync(folder).toSorted()).toEqual(['build.lock', 'key'])
  },
)

test('of two processes one builds, and the other waits, shows its progress and then goes on', async () => {
  const builder = slowBuilder(`${200_000 + process.pid}`)
  await once(builder.stdout, 'data')
  const progress = vi.fn<Progress>()
  const waiting = once_({ progress })
  await vi.waitUntil(() => progress.mock.calls.length > 0, { timeout: 10_000 })
  expect(progress.mock.calls[0]?.[0]).toEqual({
    step: 'slow step',
    fraction: 0.5,
    detail: 'another process is building',
  })
  builder.kill('SIGKILL')
  await once(builder, 'exit')
  await waiting
  expect(existsSync(place)).toBe(true)
})

test('who waits for another build can give up', async () => {
  const builder = slowBuilder(`${300_000 + process.pid}`)
  await once(builder.stdout, 'data')
  const controller = new AbortController()
  const progress: Progress = () => controller.abort(new Error('enough'))
  await expect(once_({ progress, signal: controller.signal })).rejects.toThrow(/enough|aborted/)
  builder.kill('SIGKILL')
  await once(builder, 'exit')
})
