import { existsSync, readdirSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { REQUEST, setUpMachines } from '../../test/machines/fakes.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import { createMachines } from './machines.ts'
import { identify, untilGone } from './process-identity.ts'
import { NOBODY, type Machine, type ProcessIdentity } from './types.ts'

const ADA = { ...REQUEST, userId: 'u_111111111111', taskId: 't_111111111111' }
/** Of no task: tasks remove their machines themselves. */
const MANUAL = { ...ADA, taskId: null }
const BOB = { userId: 'u_222222222222', taskId: 't_222222222222', egress: () => {} }
const HOUR_MS = 60 * 60_000
const inAnHour = () => new Date(Date.now() + HOUR_MS)

type Set = Awaited<ReturnType<typeof setUpMachines>>

async function pidOf({ database }: Set, { id }: { id: string }): Promise<number> {
  const row = await database.selectFrom('machines').select('pid').where('id', '=', id).executeTakeFirstOrThrow()
  return row.pid ?? 0
}

function exists(pid: number): boolean {
  return existsSync(`/proc/${pid}`)
}

async function kill(identity: ProcessIdentity): Promise<void> {
  process.kill(identity.pid, 'SIGKILL')
  await untilGone(identity)
}

/** What is left of machines in journal and folders. */
async function traces({ database, options }: Set): Promise<string[]> {
  const rows = await database.selectFrom('machines').select('id').execute()
  const folders = [options.runDir, options.diskDir].flatMap((folder) => (existsSync(folder) ? readdirSync(folder) : []))
  return [...rows.map(({ id }) => id), ...folders]
}

test('a suspended machine has no process and goes on when it is resumed; both can be asked for twice', async () => {
  await using set = await setUpMachines()
  const { machines } = set
  const states: string[] = []
  const machine = await machines.create({ ...ADA, onChange: ({ state }) => states.push(state) })
  const pid = await pidOf(set, machine)
  await Promise.all([machines.suspend(machine.id), machines.suspend(machine.id)])
  expect(exists(pid)).toBe(false)
  expect(machine.info().state).toBe('suspended')
  expect(machines.get(machine.id)).toBeUndefined()
  await Promise.all([machines.resume(machine.id), machines.resume(machine.id)])
  expect(machines.get(machine.id)).toBe(machine)
  expect(exists(await pidOf(set, machine))).toBe(true)
  expect(set.engine.restored).toEqual([{ folder: join(set.options.diskDir, machine.id), disk: 'own' }])
  expect(states.slice(states.indexOf('ready'))).toEqual(['ready', 'suspending', 'suspended', 'resuming', 'ready'])
})

test('a machine that can not be saved goes on, and nothing stays of the attempt', async () => {
  await using set = await setUpMachines()
  const machine = await set.machines.create(ADA)
  const pid = await pidOf(set, machine)
  for (const during of ['park', 'save'] as const) {
    set.behaviour.during = { [during]: () => Promise.reject(new Error('not now')) }
    await expect(set.machines.suspend(machine.id)).rejects.toThrow('not now')
    expect(machine.info()).toMatchObject({ state: 'ready', error: null })
  }
  expect(await pidOf(set, machine)).toBe(pid)
  expect(existsSync(join(set.options.diskDir, machine.id, 'state'))).toBe(false)
})

test('a machine whose VMM dies while it is suspended is lost and removed', async () => {
  await using set = await setUpMachines()
  const machine = await set.machines.create(MANUAL)
  set.behaviour.during = { save: kill }
  await expect(set.machines.suspend(machine.id)).rejects.toThrow('QEMU ended meanwhile')
  expect(await machine.lost).toMatch(/QEMU ended|closed/)
  await expect.poll(() => traces(set)).toEqual([])
})

test('a machine whose VMM dies before it goes on stays suspended, and goes on later', async () => {
  await using set = await setUpMachines()
  const { machines, behaviour } = set
  const machine = await machines.create(ADA)
  await machines.suspend(machine.id)
  behaviour.during = {
    async restore(identity) {
      await kill(identity)
      throw new Error('killed by SIGKILL')
    },
  }
  await expect(machines.resume(machine.id)).rejects.toThrow('killed by SIGKILL')
  expect(machine.info()).toMatchObject({ state: 'suspended', error: null })
  behaviour.during = {}
  await machines.resume(machine.id)
  expect(machine.info().state).toBe('ready')
})

test('a machine whose VMM dies when it has begun to go on is lost and removed: its disk is not what was saved any more', async () => {
  await using set = await setUpMachines()
  const machine = await set.machines.create(MANUAL)
  await set.machines.suspend(machine.id)
  set.behaviour.during = { goOn: () => Promise.reject(new Error('its monitor is closed')) }
  await expect(set.machines.resume(machine.id)).rejects.toThrow('its monitor is closed')
  expect(await machine.lost).toBe('its monitor is closed')
  await expect.poll(() => traces(set)).toEqual([])
})

test('a machine whose guest does not come back is lost and removed', async () => {
  await using set = await setUpMachines()
  const { machines, behaviour } = set
  const machine = await machines.create(MANUAL)
  await machines.suspend(machine.id)
  behaviour.hello = 'refuse'
  await expect(machines.resume(machine.id)).rejects.toMatchObject({ code: 'boot_failed' })
  expect(await machine.lost).toContain('speaks another protocol')
  await expect.poll(() => traces(set)).toEqual([])
})

test.each(['suspend', 'resume'] as const)(
  'destroying ends a %s that is under way, and nothing is left',
  async (step) => {
    await using set = await setUpMachines()
    const { machines, behaviour } = set
    const states: string[] = []
    const machine = await machines.create({ ...ADA, onChange: ({ state }) => states.push(state) })
    if (step === 'resume') await machines.suspend(machine.id)
    let destroyed: Promise<void> | undefined
    const destroy = async () => {
      destroyed ??= machine.destroy()
      await Promise.resolve()
      if (step === 'resume') throw new Error('aborted')
    }
    behaviour.during = { park: destroy, restore: destroy }
    await expect(machines[step](machine.id)).rejects.toThrow(step === 'suspend' ? 'was destroyed' : 'aborted')
    await destroyed
    expect(states.slice(states.indexOf('stopping'))).toEqual(['stopping', 'gone'])
    expect(await traces(set)).toEqual([])
  },
)

test('a suspended machine is not resumed with anything else than it was made with', async () => {
  await using set = await setUpMachines()
  const { machines, engine, image } = set
  const machine = await machines.create(ADA)
  await machines.suspend(machine.id)
  engine.version = 'fake 2'
  const message = expect.stringContaining('the vmm has changed: fake 1 → fake 2')
  await expect(machines.resume(machine.id)).rejects.toMatchObject({ code: 'conflict', message })
  await expect(machines.create({ ...ADA, forkOf: machine.id })).rejects.toMatchObject({ code: 'conflict', message })
  engine.version = 'fake 1'
  image.manifest.key = 'another'
  await expect(machines.resume(machine.id)).rejects.toThrow('the guest image has changed')
  image.manifest.key = '0123456789abcdef'
  await machines.resume(machine.id)
})

test('copies of a suspended machine are started side by side, and it stays as it is meanwhile', async () => {
  await using set = await setUpMachines()
  const { machines, behaviour } = set
  const machine = await machines.create(ADA)
  await expect(machines.create({ ...ADA, forkOf: machine.id })).rejects.toMatchObject({ code: 'conflict' })
  await machines.suspend(machine.id)
  let [running, most] = [0, 0]
  behaviour.during = {
    async restore() {
      most = Math.max(most, ++running)
      await expect.poll(() => most).toBe(2)
      running -= 1
    },
  }
  const copies = [1, 2].map(() => machines.create({ ...ADA, forkOf: machine.id }))
  await expect.poll(() => running).toBeGreaterThan(0)
  const resumed = machines.resume(machine.id)
  const made = await Promise.all(copies)
  await resumed
  for (const copy of made) expect(copy.info()).toMatchObject({ startedFrom: 'fork', state: 'ready' })
  expect(set.engine.restored.map(({ disk }) => disk)).toEqual(['copy', 'copy', 'own'])
  expect(machine.info().state).toBe('ready')
})

test('a machine of nobody is given away once, with the connections of its guest', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines } = set
  await machines.templates.build({ name: 'default', memoryMib: 512, vcpus: 1, rebuild: false })
  const { id } = await machines.create({ ...REQUEST, userId: NOBODY, egress: null })
  const seen: MachineInfo[] = []
  const tries = [ADA, BOB].map((use) => machines.assign(id, { ...use, onChange: (info) => seen.push(info) }))
  const [given, refused] = await Promise.allSettled(tries)
  expect(given).toMatchObject({ status: 'fulfilled', value: { id, hasBaseline: true } })
  expect(refused).toMatchObject({ reason: { code: 'conflict' } })
  expect(machines.list()).toMatchObject([{ userId: ADA.userId, startedFrom: 'ready', template: 'default' }])
  const row = await set.database.selectFrom('machines').selectAll().executeTakeFirstOrThrow()
  expect(row).toMatchObject({ userId: ADA.userId, taskId: ADA.taskId, startedFrom: 'ready' })
  expect(seen.every(({ taskId }) => taskId === ADA.taskId)).toBe(true)
})

test('a ready machine that has died is not given away, even before anybody has heard of it', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create({ ...REQUEST, userId: NOBODY, egress: null })
  const pid = await pidOf(set, { id })
  process.kill(pid, 'SIGKILL')
  while ((await identify(pid)) !== undefined) await new Promise((resolve) => setTimeout(resolve, 1))
  await expect(set.machines.assign(id, ADA)).rejects.toMatchObject({
    code: expect.stringMatching(/guest_lost|conflict/),
  })
  await expect.poll(() => traces(set)).toEqual([])
})

test('ready machines go at once when their template is replaced or removed; those in use go on', async () => {
  await using set = await setUpMachines({}, { templates: {} })
  const { machines } = set
  const request = { name: 'default', memoryMib: 512, vcpus: 1, rebuild: false }
  await machines.templates.build(request)
  const used = await machines.create(ADA)
  for (const change of [
    () => machines.templates.build({ ...request, rebuild: true }),
    () => machines.templates.remove('default'),
  ]) {
    const ready = await machines.create({ ...REQUEST, userId: NOBODY, egress: null })
    await change()
    expect(ready.info().state).not.toBe('ready')
    expect(await ready.lost).toContain('out of date')
  }
  expect(used.info().state).toBe('ready')
  await expect.poll(() => machines.list()).toHaveLength(1)
})

test('a kept machine is taken over; one that can not be resumed stays what it was', async () => {
  await using set = await setUpMachines()
  const { machines, behaviour } = set
  const { id } = await machines.create(ADA)
  const until = inAnHour()
  await expect(machines.assign(id, BOB)).rejects.toMatchObject({ code: 'conflict' })
  await machines.keep(id, until)
  await machines.suspend(id)
  behaviour.during = { restore: () => Promise.reject(new Error('no memory')) }
  await expect(machines.assign(id, BOB)).rejects.toThrow('no memory')
  const kept = { userId: ADA.userId, taskId: ADA.taskId, keepUntil: until.toISOString(), state: 'suspended' }
  expect(machines.list()).toMatchObject([kept])
  const row = await set.database.selectFrom('machines').selectAll().executeTakeFirstOrThrow()
  expect(row).toMatchObject(kept)
  behaviour.during = {}
  const machine = await machines.assign(id, BOB)
  expect(machine.info()).toMatchObject({ taskId: BOB.taskId, keepUntil: null, startedFrom: 'boot', state: 'ready' })
})

test('somebody who uses a machine resumes it, and keeps it from being suspended until then', async () => {
  await using set = await setUpMachines({}, { suspendIdleMs: 20 })
  const { machines } = set
  const { id } = await machines.create(ADA)
  const state = () => machines.list()[0]?.state
  {
    using _before = await machines.lease(id)
    await machines.keep(id, inAnHour())
    await expect(machines.suspend(id)).rejects.toMatchObject({ code: 'conflict' })
  }
  await expect.poll(state).toBe('suspended')
  {
    using lease = await machines.lease(id)
    expect(lease.machine.info().state).toBe('ready')
  }
  await expect.poll(state).toBe('suspended')
})

test('a kept machine is destroyed when its time is over', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create(ADA)
  await set.machines.keep(id, new Date(Date.now() + 20))
  await expect.poll(() => traces(set)).toEqual([])
})

/** Machines of ADA's: kept and suspended, suspended, in use, and kept for a time that is over. */
async function fourMachines({ machines }: Set): Promise<Machine[]> {
  const all = await Promise.all([1, 2, 3, 4].map(() => machines.create(ADA)))
  const [kept, suspended, , over] = all.map(({ id }) => id)
  await machines.keep(kept ?? '', inAnHour())
  await machines.keep(over ?? '', new Date(Date.now() + 300))
  for (const id of [kept, suspended, over]) await machines.suspend(id ?? '')
  return all
}

test('a suspended machine that is kept outlives its orchestrator, stopped or killed; all others are removed', async () => {
  for (const end of ['stopped', 'killed']) {
    await using set = await setUpMachines()
    const [kept] = await fourMachines(set)
    const before = kept?.info()
    if (end === 'stopped') await set.machines[Symbol.asyncDispose]()
    await new Promise((resolve) => setTimeout(resolve, 400)) // the time of the fourth is over
    const { engine } = set
    await using successor = createMachines({ ...set.options, chooseEngine: () => Promise.reject(new Error('not now')) })
    const removed = await successor.reconcile()
    expect(removed).not.toContain(kept?.id)
    expect(successor.list()).toEqual([{ ...before, phases: [] }])
    expect(new Set(await traces(set))).toEqual(new Set([kept?.id]))
    await successor.resume(kept?.id ?? '')
    expect(successor.list()).toMatchObject([{ state: 'ready', keepUntil: before?.keepUntil }])
    expect(engine.restored.at(-1)?.disk).toBe('own')
    await successor.evict(kept?.id ?? '', 'enough')
    expect(await traces(set)).toEqual([])
  }
})

test('a kept machine of which only the disk is left is booted from it; one that can not be taken up now stays', async () => {
  await using set = await setUpMachines()
  const { machines, options, database } = set
  const [part, blocked] = await Promise.all([machines.create(ADA), machines.create(ADA)])
  for (const { id } of [part, blocked]) {
    await machines.keep(id, inAnHour())
    await machines.suspend(id)
  }
  await machines[Symbol.asyncDispose]()
  await rm(join(options.diskDir, part.id, 'state'))
  await database.updateTable('machines').set({ engine: 'firecracker' }).where('id', '=', blocked.id).execute()
  const successor = createMachines(options)
  expect(await successor.reconcile()).toEqual([])
  expect(successor.list()).toMatchObject([{ id: part.id, state: 'suspended' }])
  expect(successor.find(part.id)?.crashed).toMatch(/gone/)
  await successor.resume(part.id)
  expect(set.engine.rebooted).toEqual([part.id])
  expect(successor.list()).toMatchObject([{ id: part.id, state: 'ready' }])
  await successor.evict(part.id, 'enough')
  expect(existsSync(join(options.diskDir, blocked.id, 'state'))).toBe(true)
  await database.updateTable('machines').set({ engine: 'qemu-tcg' }).execute()
  await mkdir(join(options.runDir, blocked.id), { recursive: true })
  await successor.reconcile()
  expect(successor.list()).toMatchObject([{ id: blocked.id, state: 'suspended' }])
  await successor.evict(blocked.id, 'enough')
  expect(await traces(set)).toEqual([])
})
