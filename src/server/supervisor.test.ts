import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createLogger } from '../telemetry/logger.ts'
import { findSupervisor, NotifiedSupervisor } from './supervisor.ts'
import { MAIN, quietHost, type Host } from './testing/server-process.ts'

/** Short, so that silence shows soon; a third of it lies between two signs of life. */
const WATCHDOG_MS = 3000

/** To end a hang: several servers are started, on a machine that may be busy. */
const TEST_MS = 180_000

let host: Host
beforeEach(async () => {
  host = await quietHost()
})
afterEach(async () => {
  vi.useRealTimers()
  await host[Symbol.asyncDispose]()
})

/** Somebody who speaks systemd's protocol and holds the socket, with what it has said so far. */
async function playSystemd() {
  const script = fileURLToPath(new URL('testing/play-systemd.pl', import.meta.url))
  const args = [script, join(host.home, 'notify'), String(WATCHDOG_MS * 1000), process.execPath, MAIN, 'serve']
  const perl = spawn('perl', args, { env: host.env, stdio: ['pipe', 'pipe', 'ignore'] })
  const said: string[] = []
  createInterface(perl.stdout).on('line', (line) => said.push(line))
  /** What stands behind the `nth` line that begins with `word`. */
  const saying = async (word: string, nth = 0): Promise<string> => {
    const find = () => said.filter((line) => line.startsWith(`${word} `))[nth]
    await expect.poll(find, { timeout: 60_000 }).toBeDefined()
    return find()?.slice(word.length + 1) ?? ''
  }
  return {
    said,
    saying,
    url: `http://127.0.0.1:${await saying('listening')}`,
    async start(nth = 0): Promise<number> {
      perl.stdin.write('start\n')
      return Number(await saying('started', nth))
    },
    async [Symbol.asyncDispose]() {
      perl.stdin.end()
      await once(perl, 'exit')
    },
  }
}

const beats = (said: string[]) => said.filter((line) => line === 'told WATCHDOG=1').length

test(
  'systemd is told of each step; the socket it hands over is served, and who connects during a restart waits',
  { timeout: TEST_MS },
  async () => {
    await using systemd = await playSystemd()
    const { said, saying, url } = systemd
    const first = await systemd.start()
    expect(await saying('told', 0)).toBe(`READY=1;STATUS=Dashboard and API at ${url}`)
    expect(await (await fetch(`${url}/health`, { signal: AbortSignal.timeout(60_000) })).json()).toEqual({
      status: 'ok',
    })
    await expect.poll(() => beats(said), { timeout: 60_000 }).toBeGreaterThan(0)

    process.kill(first, 'SIGTERM')
    expect(await saying('ended')).toBe(`${first} 0`)
    expect(said).toContain('told STOPPING=1;STATUS=Stopping')
    const waiting = fetch(`${url}/health`, { signal: AbortSignal.timeout(60_000) })
    await systemd.start(1)
    expect((await waiting).status).toBe(200)
    const ready = () => said.filter((line) => line.startsWith('told READY=1;')).length
    await expect.poll(ready, { timeout: 60_000 }).toBe(2)
  },
)

test('a server that hangs gives no signs of life', { timeout: TEST_MS }, async () => {
  await using systemd = await playSystemd()
  const { said } = systemd
  const pid = await systemd.start()
  await expect.poll(() => beats(said), { timeout: 60_000 }).toBeGreaterThan(1)
  process.kill(pid, 'SIGSTOP')
  await sleep(WATCHDOG_MS) // what was on its way arrives
  const before = beats(said)
  await sleep(WATCHDOG_MS)
  expect(beats(said)).toBe(before)
  process.kill(pid, 'SIGCONT')
  await expect.poll(() => beats(said), { timeout: 60_000 }).toBeGreaterThan(before)
})

test('a server that does not answer gives no signs of life, and is not asked a second time meanwhile', async () => {
  vi.useFakeTimers()
  const sent: (readonly string[])[] = []
  using supervisor = new NotifiedSupervisor({
    listenFd: undefined,
    periodMs: 300,
    send: async (state) => void sent.push(state),
  })
  let asked = 0
  let answer: () => Promise<boolean> = () => new Promise(() => {})
  const unblock = Promise.withResolvers<boolean>()
  supervisor.watch(() => {
    asked += 1
    return asked === 1 ? unblock.promise : answer()
  })
  await vi.advanceTimersByTimeAsync(1000)
  expect([asked, sent]).toEqual([1, []])
  answer = async () => true
  unblock.resolve(true)
  await vi.advanceTimersByTimeAsync(300)
  expect(new Set(sent.flat())).toEqual(new Set(['WATCHDOG=1']))
  answer = () => Promise.reject(new Error('the disk is gone'))
  const [before, askedBefore] = [sent.length, asked]
  await vi.advanceTimersByTimeAsync(1000)
  expect([sent.length, asked]).toEqual([before, askedBefore + 10])
})

test('what is meant for another process is not taken, and nothing of it is passed on', async () => {
  const log = createLogger('error', { write: () => {} })
  const env = {
    PATH: '/usr/bin',
    LISTEN_PID: '1',
    LISTEN_FDS: '1',
    LISTEN_FDNAMES: 'vivarium',
    WATCHDOG_PID: '1',
    WATCHDOG_USEC: '1',
    NOTIFY_SOCKET: '@nobody',
  }
  using supervisor = findSupervisor(env, log)
  expect(supervisor.listenFd).toBeUndefined()
  expect(env).toEqual({ PATH: '/usr/bin' })
  const two = { LISTEN_PID: String(process.pid), LISTEN_FDS: '2' }
  expect(() => findSupervisor(two, log)).toThrow(/2 sockets were handed over/)
  using alone = findSupervisor({}, log)
  await alone.ready('nobody listens')
})
