import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { createClient } from '../src/client/client.ts'
import { findEndpoint } from '../src/server/endpoint.ts'
import { canMount, mountSmallDisk } from '../src/store/testing/small-disk.ts'
import type { Play } from './scale/simulated-machines.ts'

const ORCHESTRATOR = fileURLToPath(new URL('scale/orchestrator.ts', import.meta.url))
const VIVARIUM = fileURLToPath(new URL('../src/main.ts', import.meta.url))

/** What a data folder with little room is set to. */
const SMALL = {
  VIVARIUM_STORAGE_MIN_FREE_MIB: '1',
  VIVARIUM_MACHINES_MIN_FREE_DISK_MIB: '1',
  VIVARIUM_MACHINES_EXPECTED_DISK_MIB: '0',
}

function run(script: string, args: string[], home: string, env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [script, ...args], {
    env: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      VIVARIUM_HOME: home,
      VIVARIUM_CACHE: join(home, 'cache'),
      VIVARIUM_LISTEN: '127.0.0.1:0',
      VIVARIUM_READY_MACHINES: '0',
      VIVARIUM_READY_CLAUDE: '0',
      VIVARIUM_LOG: 'error',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** A whole orchestrator in a process of its own, but for its machines, which are simulated. */
async function startOrchestrator(home: string, env: Record<string, string> = {}) {
  const child = run(ORCHESTRATOR, [], home, env)
  const said = child.stderr === null ? Promise.resolve('') : text(child.stderr)
  const ended = once(child, 'exit')
  while (findEndpoint(home)?.pid !== child.pid) {
    if (child.exitCode !== null) throw new Error(`It did not start: ${await said}`)
    await sleep(20)
  }
  const { url = '', key = '' } = findEndpoint(home) ?? {}
  const get = async (path: string) => {
    const response = await fetch(`${url}${path}`, { headers: { authorization: `Bearer ${key}` } })
    return { status: response.status, text: await response.text() }
  }
  return {
    child,
    client: createClient({ url, apiKey: key }),
    get,
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

/** How a program that ends by itself ended. */
async function outcome(child: ChildProcess): Promise<{ code: unknown; said: string }> {
  const streams = [child.stdout, child.stderr].map((stream) => (stream === null ? '' : text(stream)))
  const [[code], ...said] = await Promise.all([once(child, 'exit'), ...streams])
  return { code, said: said.join('') }
}

const request = (play: Play) => ({ prompt: JSON.stringify(play), agent: 'shell', memoryMib: 512, vcpus: 1 }) as const

/** Where a data folder is that goes with the test. */
function temporaryHome(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'vivarium-bad-host-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

test.skipIf(!canMount)(
  'disk full: the server says so, refuses what is new, holds what runs, and goes on by itself',
  async () => {
    using disk = mountSmallDisk({ kib: 12 * 1024 })
    await using server = await startOrchestrator(disk.path, SMALL)
    const { client, get } = server
    const lines = 300
    const { id } = await client.tasks.submit(request({ lines, everyMs: 20, bytes: 2000 }))
    await expect.poll(async () => (await client.tasks.get(id)).status, { timeout: 10_000 }).toBe('running')
    disk.fill()
    await expect
      .poll(() => get('/ready'), { timeout: 20_000 })
      .toMatchObject({
        status: 503,
        text: expect.stringMatching(/data folder.*(full|room)/),
      })
    await expect(client.tasks.submit(request({ lines: 1, everyMs: 0, bytes: 1 }))).rejects.toMatchObject({
      code: 'storage_failed',
      message: expect.stringContaining('data folder'),
    })
    expect((await get('/metrics')).text).toContain('vivarium_storage_degraded 1')
    // Longer than the agent would need: what it prints waits.
    await sleep(lines * 20 + 1000)
    const [task, history] = [await client.tasks.get(id), await get(`/api/v1/tasks/${id}/events?limit=10000`)]
    expect([task.status, history.status]).toEqual(['running', 200])
    disk.makeRoom()
    await expect.poll(async () => (await client.tasks.get(id)).status, { timeout: 30_000 }).toBe('succeeded')
    const { items } = JSON.parse((await get(`/api/v1/tasks/${id}/events?limit=10000`)).text) as {
      items: { seq: number; type: string; text?: string }[]
    }
    expect(items.map(({ seq }) => seq)).toEqual(items.map((_, index) => index + 1))
    const printed = items
      .filter(({ type }) => type === 'raw')
      .flatMap((event) => event.text?.match(/^\d+(?= )/gm) ?? [])
    expect(printed.map(Number)).toEqual(Array.from({ length: lines }, (_, index) => index + 1))
    expect((await get('/metrics')).text).toContain('vivarium_storage_degraded 0')
    await client.tasks.submit(request({ lines: 1, everyMs: 0, bytes: 1 }))
    expect(server.child.exitCode).toBeNull()
  },
)

test('two orchestrators on one data folder: the second refuses with the reason, the first does not notice', async () => {
  using home = temporaryHome()
  await using first = await startOrchestrator(home.path)
  const { code, said } = await outcome(run(VIVARIUM, ['serve'], home.path))
  expect([code, said]).toEqual([2, expect.stringMatching(/Another orchestrator already runs on the data folder/)])
  expect((await first.get('/health')).status).toBe(200)
})

test('a damaged database: the server refuses and names the backup made beside it, which the command it names takes', async () => {
  using home = temporaryHome()
  let id: string
  {
    await using server = await startOrchestrator(home.path)
    ;({ id } = await server.client.tasks.submit(request({ lines: 5, everyMs: 0, bytes: 10 })))
    await expect.poll(async () => (await server.client.tasks.get(id)).status, { timeout: 10_000 }).toBe('succeeded')
    const backup = await outcome(run(VIVARIUM, ['backup'], home.path))
    expect(backup).toMatchObject({ code: 0, said: expect.stringContaining(join(home.path, 'backups')) })
    const restore = await outcome(run(VIVARIUM, ['restore', join(home.path, 'backups')], home.path))
    expect(restore).toMatchObject({ code: 2, said: expect.stringContaining('already runs') })
  }
  const path = join(home.path, 'vivarium.db')
  writeFileSync(path, Buffer.concat([Buffer.from('damaged'), readFileSync(path).subarray(7)]))
  const refused = await outcome(run(VIVARIUM, ['serve'], home.path))
  expect(refused.code).toBe(1)
  const [, from = ''] = /"vivarium restore ([^"]+)"/.exec(refused.said) ?? []
  expect(await outcome(run(VIVARIUM, ['restore', from], home.path))).toMatchObject({ code: 0 })
  await using server = await startOrchestrator(home.path)
  expect(await server.client.tasks.get(id)).toMatchObject({ status: 'succeeded' })
  const { items } = await server.client.tasks.list({})
  expect(items.map((task) => task.id)).toEqual([id])
})
