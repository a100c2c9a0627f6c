import { existsSync, readdirSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { MachineInfo } from '../contracts/machine.ts'
import { REQUEST, setUpMachines } from '../../test/machines/fakes.ts'
import { createMachines } from './machines.ts'
import { isRunning } from './process-identity.ts'

/** Names of machines that left something behind. */
async function traces({ database, options }: Awaited<ReturnType<typeof setUpMachines>>): Promise<string[]> {
  const rows = await database.selectFrom('machines').select('id').execute()
  const folders = [options.runDir, options.diskDir].flatMap((folder) => (existsSync(folder) ? readdirSync(folder) : []))
  return [...rows.map(({ id }) => id), ...folders]
}

test('a machine goes through its steps, is ready, and leaves nothing when destroyed', async () => {
  await using set = await setUpMachines()
  const seen: MachineInfo[] = []
  const watched: string[] = []
  set.machines.watch(({ state }) => watched.push(state))
  const machine = await set.machines.create({ ...REQUEST, onChange: (info) => seen.push(info) })
  expect(machine.info()).toMatchObject({ id: machine.id, state: 'ready', error: null, engine: 'qemu-tcg' })
  const names = machine.info().phases.map(({ name }) => name)
  expect(names).toEqual(['image', 'disk', 'vmm', 'kernel', 'agent'])
  expect(set.machines.get(machine.id)).toBe(machine)
  expect(await set.database.selectFrom('machines').select(['id', 'pid']).execute()).toEqual([
    { id: machine.id, pid: expect.any(Number) },
  ])

  await Promise.all([machine.destroy(), machine.destroy()])
  expect(await traces(set)).toEqual([])
  expect(set.machines.list()).toEqual([])
  expect(seen.map(({ state }) => state)).toEqual([...Array<string>(5).fill('booting'), 'ready', 'stopping', 'gone'])
  expect(watched).toEqual(seen.map(({ state }) => state))
})

test('a machine is in the journal, without a process, before its VMM exists', async () => {
  await using set = await setUpMachines()
  const { engine } = set
  const create = engine.create.bind(engine)
  engine.create = async (spec, started) => {
    const rows = await set.database.selectFrom('machines').selectAll().execute()
    expect(rows).toMatchObject([{ id: spec.id, runDir: spec.runDir, diskDir: spec.diskDir, pid: null }])
    return create(spec, started)
  }
  await set.machines.create(REQUEST)
  await expect.poll(() => set.accepted.length).toBe(1)
})

const isRoot = process.getuid?.() === 0

test.runIf(isRoot)('machines alive at once have different uids', async () => {
  await using set = await setUpMachines()
  const { machines, engine } = set
  await Promise.all([1, 2, 3, 4].map(() => machines.create(REQUEST)))
  const uids = engine.specs.map(({ uid }) => uid)
  expect(new Set(uids).size).toBe(4)
  expect(uids).not.toContain(undefined)
})

test('a boot that fails leaves nothing and says how the console ended', async () => {
  await using set = await setUpMachines({ hello: 'refuse' })
  await expect(set.machines.create(REQUEST)).rejects.toMatchObject({
    code: 'boot_failed',
    message:
      'The machine did not start: the agent speaks another protocol. Its console ends with: Linux version 6 | Kernel panic - not syncing',
  })
  expect(await traces(set)).toEqual([])
  expect(set.machines.list()).toEqual([])
})

test('an engine that fails leaves nothing', async () => {
  await using set = await setUpMachines({ create: 'fail' })
  await expect(set.machines.create(REQUEST)).rejects.toThrow('no VMM today')
  expect(await traces(set)).toEqual([])
})

test('a VMM that dies while its guest boots ends the wait', async () => {
  await using set = await setUpMachines({ hello: 'never' })
  const booting = set.machines.create({
    ...REQUEST,
    onChange: async ({ id, phases, state }) => {
      if (state !== 'booting' || phases.at(-1)?.name !== 'agent') return
      const row = await set.database.selectFrom('machines').select('pid').where('id', '=', id).executeTakeFirstOrThrow()
      process.kill(row.pid ?? 0, 'SIGTERM')
    },
  })
  await expect(booting).rejects.toMatchObject({ code: 'boot_failed', message: expect.stringContaining('SIGTERM') })
  expect(await traces(set)).toEqual([])
})

test('aborting a boot removes what it made and rejects with the reason', async () => {
  await using set = await setUpMachines({ hello: 'never' })
  const controller = new AbortController()
  const reason = new Error('changed my mind')
  const onChange = ({ phases }: MachineInfo) => phases.at(-1)?.name === 'agent' && controller.abort(reason)
  await expect(set.machines.create({ ...REQUEST, onChange, signal: controller.signal })).rejects.toBe(reason)
  expect(await traces(set)).toEqual([])
})

test('a ready machine whose VMM dies is lost, in words, and can still be destroyed', async () => {
  await using set = await setUpMachines()
  const machine = await set.machines.create(REQUEST)
  const { pid } = await set.database.selectFrom('machines').select('pid').executeTakeFirstOrThrow()
  process.kill(pid ?? 0, 'SIGKILL')
  expect(await machine.lost).toBe('QEMU ended: SIGKILL')
  expect(machine.info()).toMatchObject({ state: 'stopping', error: { code: 'guest_lost' } })
  await machine.destroy()
  expect(await traces(set)).toEqual([])
})

test('evicting tells the user of the machine why', async () => {
  await using set = await setUpMachines()
  const machine = await set.machines.create(REQUEST)
  await set.machines.evict(machine.id, 'its owner destroyed it')
  expect(await machine.lost).toBe('its owner destroyed it')
  expect(await traces(set)).toEqual([])
  await expect(set.machines.evict(machine.id, 'again')).rejects.toMatchObject({ code: 'not_found' })
})

test('closing destroys ready and booting machines and lets no new one start', async () => {
  await using set = await setUpMachines()
  await set.machines.create(REQUEST)
  set.engine.behaviour.hello = 'never'
  const booting = set.machines.create(REQUEST)
  const refused = booting.catch((error: unknown) => error)
  await expect.poll(() => set.machines.list().length).toBe(2)
  await set.machines[Symbol.asyncDispose]()
  expect(await refused).toMatchObject({ code: 'shutting_down' })
  expect(await traces(set)).toEqual([])
  await expect(set.machines.create(REQUEST)).rejects.toMatchObject({ code: 'shutting_down' })
})

test('too large a machine is refused before anything is made', async () => {
  await using set = await setUpMachines()
  await expect(set.machines.create({ ...REQUEST, memoryMib: 5000 })).rejects.toMatchObject({
    code: 'machine_too_large',
  })
  expect(set.engine.specs).toEqual([])
})

test('what a killed orchestrator left is removed, and nothing of this one', async () => {
  await using set = await setUpMachines()
  const { options, engine, database } = set
  const left = await set.machines.create(REQUEST)
  const row = await database.selectFrom('machines').selectAll().executeTakeFirstOrThrow()
  const identity = { pid: row.pid ?? 0, startTime: row.startTime ?? 0 }
  await mkdir(join(options.runDir, 'vm_zzzzzzzzzzzz'))
  await mkdir(join(options.diskDir, 'of-somebody-else'))

  const successor = createMachines(options)
  const own = await successor.create(REQUEST)
  expect(await successor.reconcile()).toEqual([left.id])
  for (const { remove } of await successor.leaks()) await remove()
  expect(await isRunning(identity)).toBe(false)
  expect(readdirSync(options.runDir)).toEqual([own.id])
  expect(readdirSync(options.diskDir).toSorted()).toEqual(['of-somebody-else', own.id].toSorted())
  expect(own.info().state).toBe('ready')
  expect(await successor.reconcile()).toEqual([])
  await successor[Symbol.asyncDispose]()
  expect(engine.specs.length).toBe(2)
})

test.runIf(isRoot)('reconcile finds a VMM whose pid was never written down by its uid', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create(REQUEST)
  const row = await set.database.selectFrom('machines').selectAll().executeTakeFirstOrThrow()
  await set.database.updateTable('machines').set({ pid: null, startTime: null }).execute()
  expect(await createMachines(set.options).reconcile()).toEqual([id])
  expect(await isRunning({ pid: row.pid ?? 0, startTime: row.startTime ?? 0 })).toBe(false)
})

test('a pid that now belongs to somebody else is left alone', async () => {
  await using set = await setUpMachines()
  const row = { pid: process.pid, startTime: 1, uid: null, engine: 'qemu-tcg', memoryMib: 1, vcpus: 1 }
  const place = { runDir: join(set.folder, 'run/a'), diskDir: join(set.folder, 'disks/a') }
  const values = { id: 'vm_111111111111', userId: 'u', taskId: null, createdAt: '', ...row, ...place }
  await set.database.insertInto('machines').values(values).execute()
  expect(await set.machines.reconcile()).toEqual(['vm_111111111111'])
})
