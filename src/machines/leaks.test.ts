import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { REQUEST, setUpMachines } from '../../test/machines/fakes.ts'
import { newId } from '../contracts/ids.ts'
import { ownTag } from '../files/owner.ts'
import { Reaper } from '../reaper/reaper.ts'
import { makeReachable } from './folders.ts'
import { killMachineProcesses } from './kill.ts'
import { findStrays } from './leaks.ts'
import { isRunning } from './process-identity.ts'
import { launch } from './qemu/launch.ts'
import { livesIn } from './sandbox-owner.ts'
import type { ProcessIdentity } from './types.ts'
import { canLeaseUids, leaseUid } from './uid-lease.ts'

const canLease = await canLeaseUids()

/** Folders of two orchestrators; `ours` is the one that looks. */
let base: string
let stack: AsyncDisposableStack
beforeEach(async () => {
  // Below /run, as real ones: short, and passable for other uids.
  base = mkdtempSync(process.getuid?.() === 0 ? '/run/vivarium-test-' : '/tmp/vivarium-test-')
  stack = new AsyncDisposableStack()
  stack.defer(() => rmSync(base, { recursive: true }))
  await makeReachable(base)
})
afterEach(() => stack.disposeAsync())

function places(name: string) {
  // Groups are named after it, and stand beside those of all others on this host.
  const runDir = join(base, `${name}-${randomBytes(4).toString('hex')}`)
  const diskDir = `${runDir}-disks`
  for (const folder of [runDir, diskDir]) mkdirSync(folder, { recursive: true })
  return { runDir, diskDir, known: async () => new Set<string>() }
}

/** A process in the sandbox of a machine, named as QEMU is. */
async function sandboxed({ runDir, diskDir }: { runDir: string; diskDir: string }, id: string, uid?: number) {
  const [run, disk] = [join(runDir, id), join(diskDir, id)]
  await makeReachable(runDir)
  for (const folder of [run, disk]) await mkdir(folder, { recursive: true })
  if (uid !== undefined) await chown(run, uid, uid)
  const { identity } = await launch({
    program: '/usr/bin/sh',
    args: ['-c', 'while :; do sleep 600; done', `vivarium-${id}`],
    files: [],
    runDir: run,
    logPath: join(disk, 'vmm.log'),
    devices: {},
    uid,
    gid: uid,
    dieWithParent: true,
    maxFileBytes: 1024,
  })
  stack.defer(() => killMachineProcesses({ id, runDir: run, identity, uid }))
  await expect.poll(() => livesIn(identity.pid, run)).toBe(true) // its helper is still at it
  return identity
}

const isAlive = (identities: ProcessIdentity[]) => Promise.all(identities.map((identity) => isRunning(identity)))

test('a machine that is in no journal is found by its folders and processes, and all of it is removed', async () => {
  const ours = places('ours')
  const [stray, owned] = [newId('vm'), newId('vm')]
  const uid = canLease ? await leaseUid(new Set()) : undefined
  const processes = [await sandboxed(ours, stray, uid), await sandboxed(ours, owned)]
  const known = async () => new Set([owned])
  const found = await findStrays({ ...ours, known })
  expect(found).toMatchObject([{ kind: 'machine', what: stray }])
  for (const part of [join(ours.runDir, stray), join(ours.diskDir, stray), `process ${processes[0]?.pid}`])
    expect(found[0]?.why).toContain(part)
  for (const { remove } of found) await remove()
  expect(await isAlive(processes)).toEqual([false, true])
  expect([ours.runDir, ours.diskDir].map((folder) => existsSync(join(folder, stray)))).toEqual([false, false])
  expect(await findStrays({ ...ours, known })).toEqual([])
})

test('a process whose run folder is gone is still known as ours', async () => {
  const ours = places('ours')
  const id = newId('vm')
  const identity = await sandboxed(ours, id)
  for (const folder of [ours.runDir, ours.diskDir]) rmSync(join(folder, id), { recursive: true })
  const found = await findStrays(ours)
  expect(found.map(({ what }) => what)).toEqual([id])
  await found[0]?.remove()
  expect(await isRunning(identity)).toBe(false)
})

test("others' processes are left alone: of the same name, of another orchestrator, and of one with the same id", async () => {
  const [ours, others] = [places('ours'), places('others')]
  const id = newId('vm')
  const foreign = await sandboxed(others, id)
  const namesake = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', `vivarium-${id}`], { stdio: 'ignore' })
  stack.defer(() => void namesake.kill())
  await once(namesake, 'spawn')
  expect(await findStrays(ours)).toEqual([])

  // Ours is there as well: it goes, they stay.
  const own = await sandboxed(ours, id)
  const found = await findStrays(ours)
  expect(found.map(({ what }) => what)).toEqual([id])
  await found[0]?.remove()
  expect(await isAlive([own, foreign])).toEqual([false, true])
  expect([namesake.exitCode, namesake.signalCode]).toEqual([null, null])
  expect(existsSync(join(others.runDir, id))).toBe(true)
})

test.runIf(canLease)('a uid that another orchestrator has leased since is not ours to kill by', async () => {
  const [ours, others] = [places('ours'), places('others')]
  const uid = await leaseUid(new Set())
  const theirs = await sandboxed(others, newId('vm'), uid)
  // As after a restart of the host: our journal still names the uid, and the machine is long gone.
  const id = newId('vm')
  await killMachineProcesses({ id, runDir: join(ours.runDir, id), identity: undefined, uid })
  expect(await isRunning(theirs)).toBe(true)
})

test('an engine that is being tried by somebody is no leak; one whose tester is gone is', async () => {
  const ours = places('ours')
  const [namespace, pid, , random] = (await ownTag()).split('-')
  const [mine, dead] = [`probe-${await ownTag()}`, `probe-${[namespace, pid, '1', random].join('-')}`]
  for (const id of [mine, dead]) await mkdir(join(ours.runDir, id))
  const found = await findStrays(ours)
  expect(found.map(({ what }) => what)).toEqual([dead])
  await found[0]?.remove()
  expect(existsSync(join(ours.runDir, dead))).toBe(false)
})

test('sweeping beside machines that come and go removes nothing that lives', async () => {
  await using set = await setUpMachines()
  await using reaper = new Reaper({ sources: [() => set.machines.leaks()], everyMs: 1, log: set.options.log })
  await reaper.begin()
  for (let round = 0; round < 15; round++) {
    const made = await Promise.all([1, 2, 3].map(() => set.machines.create(REQUEST)))
    for (const { id } of made) expect(existsSync(join(set.options.runDir, id))).toBe(true)
    expect(made.map((machine) => machine.info().state)).toEqual(['ready', 'ready', 'ready'])
    await Promise.all(made.map((machine) => machine.destroy()))
  }
  expect(set.said).toEqual([])
  expect(await reaper.leaks()).toEqual([])
})

test('a machine that could not be removed stays in the journal, and is removed as soon as it can be', async () => {
  await using set = await setUpMachines()
  const { machines, database, options } = set
  const machine = await machines.create(REQUEST)
  await database
    .updateTable('machines')
    .set({ id: newId('vm') })
    .where('id', '=', machine.id)
    .execute()
  const row = await database.selectFrom('machines').select('id').executeTakeFirstOrThrow()
  const found = await machines.leaks()
  expect(found).toMatchObject([{ kind: 'machine', what: row.id }])
  await machine.destroy()
  for (const { remove } of found) await remove()
  expect(await database.selectFrom('machines').selectAll().execute()).toEqual([])
  expect(existsSync(join(options.runDir, machine.id))).toBe(false)
})
