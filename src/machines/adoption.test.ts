import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { REQUEST, setUpMachines } from '../../test/machines/fakes.ts'
import { createMachines } from './machines.ts'
import { identify } from './process-identity.ts'
import type { Machines } from './types.ts'

type Set = Awaited<ReturnType<typeof setUpMachines>>

const ADA = { ...REQUEST, userId: 'u_111111111111', taskId: 't_111111111111' }
const MANUAL = { ...ADA, taskId: null }

/** Ends the VMM of a machine while no orchestrator watches it. */
async function leaveAndKillVmm(set: Set, id: string): Promise<void> {
  await set.machines.leave(id)
  await killVmm(set, id)
}

async function killVmm({ database }: Set, id: string): Promise<void> {
  const { pid } = await database.selectFrom('machines').select('pid').where('id', '=', id).executeTakeFirstOrThrow()
  process.kill(pid ?? 0, 'SIGKILL')
  while ((await identify(pid ?? 0)) !== undefined) await new Promise((resolve) => setTimeout(resolve, 1))
}

function inUse(...ids: string[]) {
  return { inUse: new Set(ids), givenBack: new Map<string, string>() }
}

const states = (machines: Machines) => new Map(machines.list().map(({ id, state }) => [id, state]))

/** Destroys what a successor has, so that nothing is left. */
async function endAll(machines: Machines): Promise<void> {
  for (const { id } of machines.list()) await machines.evict(id, 'enough')
}

test('machines of users run on when their orchestrator is killed, those of nobody and of tasks that never began go', async () => {
  await using set = await setUpMachines()
  const create = (request: typeof ADA | typeof MANUAL) => set.machines.create(request)
  const used = await create(ADA)
  const neverBegun = await create(ADA)
  const manual = await create(MANUAL)
  const nobodys = await set.machines.create(REQUEST)
  await using successor = createMachines(set.options)
  const removed = await successor.reconcile(inUse(used.id))
  expect(removed.toSorted()).toEqual([neverBegun.id, nobodys.id].toSorted())
  await expect.poll(() => states(successor)).toEqual(new Map([used.id, manual.id].map((id) => [id, 'ready'])))
  expect(set.engine.specs).toHaveLength(4) // none was started again
  await endAll(successor)
})

test('a machine that died while no orchestrator ran says so, and is booted from its disk when it is resumed', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create(ADA)
  await leaveAndKillVmm(set, id)
  await using successor = createMachines(set.options)
  await successor.reconcile(inUse(id))
  expect(states(successor).get(id)).toBe('suspended')
  expect(successor.find(id)?.crashed).toMatch(/gone/)
  await successor.resume(id)
  expect([states(successor).get(id), set.engine.rebooted]).toEqual(['ready', [id]])
  await endAll(successor)
})

test('a machine that is lost under its orchestrator is salvaged: booted from its disk, in its old place', async () => {
  await using set = await setUpMachines()
  const { machines, engine } = set
  const machine = await machines.create(ADA)
  const { id } = machine
  await expect(machines.salvage(id)).rejects.toMatchObject({ code: 'conflict' })
  await killVmm(set, id)
  expect(await machine.lost).toMatch(/SIGKILL/)
  const salvaged = await machines.salvage(id)
  expect([salvaged.crashed, states(machines).get(id)]).toEqual(['its process is gone', 'suspended'])
  await machines.resume(id)
  expect([states(machines), engine.rebooted]).toEqual([new Map([[id, 'ready']]), [id]])
  await machine.destroy() // of the lost one nothing is left, also not this
  expect(machines.find(id)).toBe(salvaged)
  await salvaged.destroy()
  expect([machines.list(), await machines.leaks()]).toEqual([[], []])
})

test('a lost machine that can not be salvaged is left to the reaper, and a destroyed one is not there to be salvaged', async () => {
  await using set = await setUpMachines()
  const { machines } = set
  const broken = await machines.create(ADA)
  await killVmm(set, broken.id)
  await broken.lost
  await rm(set.options.runDir, { recursive: true })
  await writeFile(set.options.runDir, 'in the way')
  await expect(machines.salvage(broken.id)).rejects.toMatchObject({ code: 'ENOTDIR' })
  await rm(set.options.runDir)
  const other = await machines.create(ADA)
  await machines.evict(other.id, 'enough')
  await expect(machines.salvage(other.id)).rejects.toMatchObject({ code: 'not_found' })
  expect(machines.list()).toEqual([])
  const leaks = await machines.leaks()
  expect(leaks.map(({ what }) => what)).toEqual([broken.id])
  for (const leak of leaks) await leak.remove()
  expect(await machines.leaks()).toEqual([])
})

test('a machine that died and whose disk is gone is removed', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create(ADA)
  await leaveAndKillVmm(set, id)
  await rm(join(set.options.diskDir, id), { recursive: true })
  await using successor = createMachines(set.options)
  expect(await successor.reconcile(inUse(id))).toEqual([id])
})

test('an orchestrator that ends in order leaves machines running or suspends them, as it is told', async () => {
  for (const [atShutdown, expected] of [
    ['leave', 'ready'],
    ['suspend', 'suspended'],
  ] as const) {
    await using set = await setUpMachines({}, { atShutdown })
    const used = await set.machines.create(ADA)
    const nobodys = await set.machines.create(REQUEST)
    await set.machines[Symbol.asyncDispose]()
    await using successor = createMachines({ ...set.options, atShutdown: 'stop' })
    expect(await successor.reconcile(inUse(used.id))).not.toContain(used.id)
    await expect.poll(() => states(successor)).toEqual(new Map([[used.id, expected]]))
    expect(successor.find(nobodys.id)).toBeUndefined()
    await endAll(successor)
  }
})

test('a kept machine that a task had taken over without beginning in it is given back', async () => {
  await using set = await setUpMachines()
  const { id } = await set.machines.create(ADA)
  const until = new Date(Date.now() + 3_600_000)
  await set.machines.keep(id, until)
  const other = 't_222222222222'
  await set.machines.assign(id, { ...ADA, taskId: other })
  await using successor = createMachines(set.options)
  await successor.reconcile({ inUse: new Set(), givenBack: new Map([[id, ADA.taskId]]) })
  expect(successor.list()).toMatchObject([{ id, taskId: ADA.taskId, keepUntil: until.toISOString() }])
  await endAll(successor)
})

test('what a machine without a task may reach is known to the next orchestrator', async () => {
  await using set = await setUpMachines()
  const network = { allow: ['example.com'] }
  const { id } = await set.machines.create({ ...MANUAL, network })
  await using successor = createMachines(set.options)
  await successor.reconcile()
  expect(successor.networkOf(id)).toEqual(network)
  await endAll(successor)
})
