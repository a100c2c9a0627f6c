import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import type { Machine } from '../../src/machines/types.ts'
import { isRunning } from '../../src/machines/process-identity.ts'
import { REQUEST } from './fakes.ts'
import { openMachines } from './orchestrator.ts'

const ORCHESTRATOR = fileURLToPath(new URL('orchestrator.ts', import.meta.url))

async function openRoom() {
  const folder = await mkdtemp(join(tmpdir(), 'machines-'))
  const runDir = `/run/vivarium-test-${randomBytes(4).toString('hex')}`
  const { machines, database } = await openMachines(folder, runDir)
  return {
    folder,
    runDir,
    machines,
    database,
    traces: () => [runDir, join(folder, 'machines')].flatMap((path) => (existsSync(path) ? readdirSync(path) : [])),
    async [Symbol.asyncDispose]() {
      await machines[Symbol.asyncDispose]()
      await database.destroy()
      await rm(folder, { recursive: true })
      await rm(runDir, { recursive: true, force: true })
    },
  }
}

async function run(machine: Machine, command: string): Promise<string> {
  const { stdout, exit } = await machine.link.exec(
    { argv: ['bash', '-c', command], env: {}, cwd: '/workspace', user: 'agent' },
    { timeoutMs: 120_000 },
  )
  expect(exit.code).toBe(0)
  return stdout.toString().trim()
}

test('a machine boots to its agent, has no network card, and its death is told', async () => {
  await using room = await openRoom()
  const machine = await room.machines.create(REQUEST)
  expect(machine.info()).toMatchObject({ state: 'ready', error: null })
  expect(machine.info().phases.map(({ name }) => name)).toEqual(['image', 'disk', 'vmm', 'kernel', 'agent'])
  expect(await run(machine, 'ls /sys/class/net')).toBe('lo')
  expect(await run(machine, 'nproc; whoami')).toBe('1\nagent')
  const { pid } = await room.database.selectFrom('machines').select('pid').executeTakeFirstOrThrow()
  process.kill(pid ?? 0, 'SIGKILL')
  expect(await machine.lost).toMatch(/SIGKILL|closed/)
  await machine.destroy()
  expect(room.traces()).toEqual([])
})

test("what one machine writes, another one's disk does not hold, and the shared image can't be written", async () => {
  await using room = await openRoom()
  const [first, second] = await Promise.all([room.machines.create(REQUEST), room.machines.create(REQUEST)])
  await run(first, 'echo mine > /workspace/note; sudo touch /usr/local/mark')
  expect(await run(first, 'cat /workspace/note; ls /usr/local/mark')).toBe('mine\n/usr/local/mark')
  expect(await run(second, 'ls /workspace; ls /usr/local/mark 2>&1 || true')).toMatch(/^ls: cannot access/)
  expect(await run(first, 'sudo dd if=/dev/zero of=/dev/vda bs=512 count=1 2>&1 || true')).toMatch(
    /not permitted|Read-only|denied/i,
  )
})

test('a killed orchestrator leaves its machine running; the next one removes it without a trace', async () => {
  await using room = await openRoom()
  const killed = await execa(process.execPath, [ORCHESTRATOR, room.folder, room.runDir], { reject: false })
  expect(killed.signal).toBe('SIGKILL')
  const id = killed.stdout.trim()
  const row = await room.database.selectFrom('machines').selectAll().executeTakeFirstOrThrow()
  const identity = { pid: row.pid ?? 0, startTime: row.startTime ?? 0 }
  expect(row.id).toBe(id)
  expect(await isRunning(identity)).toBe(true)
  expect(await room.machines.reconcile()).toEqual([id])
  expect(await isRunning(identity)).toBe(false)
  expect(room.traces()).toEqual([])
  expect(await room.database.selectFrom('machines').selectAll().execute()).toEqual([])
})
