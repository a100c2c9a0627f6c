import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadConfig } from '../../src/config/load.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'

/*
 * The orchestrator, or a QEMU of its, is killed in the middle of a step, told by what is seen of that step from outside.
 * Whatever it was, nothing may stay but what is whole.
 */

/** Small, so that a template takes little time to build. */
const SIZE = { memoryMib: 512, vcpus: 1 }
const SEEN_MS = 300_000

/** Guest images are shared with everybody; templates are these tests' own. */
const cacheDir = mkdtempSync(join(tmpdir(), 'vivarium-cache-'))
const templates = join(cacheDir, 'templates')
let orchestrator: TestOrchestrator

beforeAll(async () => {
  const shared = loadConfig().config.cacheDir
  for (const name of ['images', 'probes', 'scratch']) {
    mkdirSync(join(shared, name), { recursive: true })
    symlinkSync(join(shared, name), join(cacheDir, name))
  }
  orchestrator = await startOrchestrator({ script: { conversations: [] }, env: { VIVARIUM_CACHE: cacheDir } })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
  rmSync(cacheDir, { recursive: true })
})

function entries(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

/** What there is of machines and of templates that are not whole: processes, folders of sockets and disks, builds. */
function remains(): string[] {
  const machines = [...entries(orchestrator.runDir), ...entries(join(orchestrator.home, 'machines'))]
  const parts = entries(templates).filter((name) => name.startsWith('.'))
  return [...machines, ...parts, ...processesNaming(orchestrator.runDir).map((pid) => `process ${pid}`)]
}

/** Until `value` is there. Looks often: what is waited for may be over in a moment. */
async function seen<T>(value: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + SEEN_MS; Date.now() < deadline; await sleep(2)) {
    const found = await value()
    if (found !== undefined) return found
  }
  throw new Error('it was never seen')
}

/** A machine that is not among those that were there, by its folder of sockets. */
function newMachine(before: string[]): Promise<string> {
  return seen(() => entries(orchestrator.runDir).find((id) => !before.includes(id)))
}

/** Kills the QEMU of a machine as soon as it is there. */
async function killQemu(id: string): Promise<void> {
  const pids = await seen(() => {
    const found = processesNaming(`vivarium-${id}`)
    return found.length === 0 ? undefined : found
  })
  for (const pid of pids) kill(pid)
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended with the one before.
  }
}

/** A machine starts, from the template, and works. */
async function expectGoodStart(): Promise<void> {
  const { vms } = orchestrator.client
  const { id, startedFrom } = await vms.create(SIZE)
  expect(startedFrom).toBe('template')
  expect(await vms.exec(id, { command: 'echo works' })).toMatchObject({ stdout: 'works\n' })
  await vms.destroy(id)
  expect(remains()).toEqual([])
}

test('template build: QEMU killed, or the orchestrator at the beginning and at the end; nothing of it stays, and the next is whole', async () => {
  const killed = orchestrator.client.templates.build(SIZE).catch((error: Error) => error)
  await killQemu(await newMachine([]))
  expect(await killed).toMatchObject({ code: expect.stringMatching(/engine_failed|boot_failed/) })
  expect(remains()).toEqual([])

  const partOf = (name: string) => () => {
    const building = entries(templates).find((entry) => entry.startsWith('.new-'))
    return building && entries(join(templates, building)).find((entry) => entry.startsWith(name))
  }
  for (const moment of [partOf('scratch'), partOf('state')]) {
    const lost = orchestrator.client.templates.build(SIZE).catch((error: Error) => error)
    await seen(moment)
    await orchestrator.restart('SIGKILL')
    expect(await lost).toBeInstanceOf(Error)
    expect(remains()).toEqual([])
    expect((await orchestrator.client.templates.list()).map(({ state }) => state)).not.toContain('building')
  }
  expect(await orchestrator.client.templates.build(SIZE)).toMatchObject({ state: 'ready' })
  await expectGoodStart()
})

test('restore: QEMU killed, the machine is booted instead; the orchestrator killed, nothing stays; the template is good', async () => {
  const { vms } = orchestrator.client
  const creating = vms.create(SIZE)
  await killQemu(await newMachine([]))
  const { id } = await creating
  expect(await vms.exec(id, { command: 'echo works' })).toMatchObject({ stdout: 'works\n' })
  await vms.destroy(id)

  const lost = vms.create(SIZE).catch((error: Error) => error)
  await newMachine([])
  await orchestrator.restart('SIGKILL')
  expect(await lost).toBeInstanceOf(Error)
  expect(remains()).toEqual([])
  await expectGoodStart()
})

/** A machine that was kept, with a file in it. */
async function keptMachine(): Promise<string> {
  const { tasks } = orchestrator.client
  const { id } = await tasks.submit({ prompt: 'echo kept > note', agent: 'shell', ...SIZE, keepVmSeconds: 3600 })
  for await (const _ of tasks.follow(id));
  return (await tasks.get(id)).vmId ?? ''
}

/** A kept machine is there whole and can be used, or gone with all that was made for it. Whether it is there. */
async function isWholeOrGone(id: string): Promise<boolean> {
  const { vms } = orchestrator.client
  const left = () => vms.list().then((all) => all.find((machine) => machine.id === id))
  await expect
    .poll(async () => (await left())?.state ?? 'gone', { timeout: SEEN_MS })
    .toMatch(/^(suspended|ready|gone)$/)
  const isThere = (await left()) !== undefined
  const note = isThere ? (await vms.exec(id, { command: 'cat note' })).stdout : 'kept\n'
  expect(note).toBe('kept\n')
  if (isThere) await vms.destroy(id)
  expect(remains()).toEqual([])
  return isThere
}

/** Until a machine is seen in a state. */
async function inState(id: string, state: string): Promise<void> {
  const { vms } = orchestrator.client
  await seen(async () => ((await vms.get(id)).state === state ? state : undefined))
}

test('suspend: whoever is killed, the kept machine is whole or gone', async () => {
  const first = await keptMachine()
  const failed = orchestrator.client.vms.suspend(first).catch((error: Error) => error)
  await inState(first, 'suspending')
  await killQemu(first)
  await failed
  expect(await isWholeOrGone(first)).toBe(false)

  const second = await keptMachine()
  const lost = orchestrator.client.vms.suspend(second).catch((error: Error) => error)
  await seen(() => entries(join(orchestrator.home, 'machines', second)).find((name) => name.startsWith('state')))
  await orchestrator.restart('SIGKILL')
  await lost
  await isWholeOrGone(second)
})

test('resume: whoever is killed, the kept machine is whole or gone, also after another restart', async () => {
  const id = await keptMachine()
  await orchestrator.client.vms.suspend(id)
  const failed = orchestrator.client.vms.resume(id).catch((error: Error) => error)
  await killQemu(id)
  expect(await failed).toBeInstanceOf(Error)
  await isWholeOrGone(id)

  const other = await keptMachine()
  await orchestrator.client.vms.suspend(other)
  await orchestrator.restart('SIGKILL') // it is there after that
  const lost = orchestrator.client.vms.resume(other).catch((error: Error) => error)
  await inState(other, 'resuming')
  await orchestrator.restart('SIGKILL')
  await lost
  await isWholeOrGone(other)
})

test('pool fill: whoever is killed, machines become ready, and nothing else stays', async () => {
  await using pooled = await startOrchestrator({
    script: { conversations: [] },
    env: {
      VIVARIUM_CACHE: cacheDir,
      VIVARIUM_READY_MACHINES: '1',
      VIVARIUM_READY_MEMORY_MIB: '512',
      VIVARIUM_READY_VCPUS: '1',
    },
  })
  const others = orchestrator
  orchestrator = pooled
  try {
    await newMachine([])
    await pooled.restart('SIGKILL')
    await killQemu(await newMachine([]))
    const ready = async () => {
      const headers = { authorization: `Bearer ${pooled.key}` }
      return (await fetch(`${pooled.url}/api/v1/metrics`, { headers })).text()
    }
    await expect.poll(ready, { timeout: SEEN_MS, interval: 200 }).toMatch(/^vivarium_ready_machines 1$/m)
    expect(entries(pooled.runDir)).toHaveLength(1)
    expect(entries(join(pooled.home, 'machines'))).toEqual(entries(pooled.runDir))
  } finally {
    orchestrator = others
  }
})
