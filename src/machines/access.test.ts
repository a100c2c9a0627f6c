import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import { REQUEST, setUpMachines } from '../../test/machines/fakes.ts'
import { ExecRequest, MachineRequest } from '../contracts/machine.ts'
import { NO_TOKENS } from '../contracts/usage.ts'
import type { EgressContext, Gateway } from '../gateway/types.ts'
import type { ExecOutput, ExecSpec, GuestLink } from '../link/types.ts'
import { createMachineAccess } from './access.ts'
import { createCapacity } from './capacity.ts'

const ADA = 'u_000000000000'
const BOB = 'u_111111111111'

const PLENTY = {
  memoryMib: 65_536,
  vcpus: 64,
  machines: 16,
  largest: { memoryMib: 4096, vcpus: 4 },
  minFreeDiskMib: 0,
  expectedDiskMib: 0,
}

function fakeGateway() {
  const opened: EgressContext[] = []
  const closed = new Set<string>()
  const gateway: Gateway = {
    credentialKind: () => undefined,
    settle: async () => {},
    recordsOf: async () => [],
    open(context) {
      opened.push(context)
      return {
        accept: () => {},
        totals: () => ({ usage: NO_TOKENS, costUsd: 0, requests: 0, overBudget: false }),
        settled: async () => {},
        close: async () => void closed.add(context.machineId),
      }
    },
  }
  return { gateway, opened, closed: () => closed.size }
}

async function setUp(few: { memoryMib?: number; machines?: number; vcpus?: number } = {}) {
  const set = await setUpMachines()
  const gateway = fakeGateway()
  const capacity = createCapacity({
    limits: { ...PLENTY, ...few },
    machines: set.machines,
    freeDiskBytes: () => 2 ** 40,
  })
  const access = createMachineAccess({ machines: set.machines, gateway: gateway.gateway, capacity })
  return { ...set, ...gateway, capacity, access }
}

/** Replaces calls of a machine's link. */
function script(link: GuestLink, calls: Partial<GuestLink>): void {
  Object.assign(link, calls)
}

test("another user's machine is not found, whatever is asked of it", async () => {
  await using set = await setUp()
  const { access, machines } = set
  const { id } = await access.create(ADA, MachineRequest.parse({ memoryMib: 512, vcpus: 1 }))
  const request = ExecRequest.parse({ command: 'true' })
  const notFound = { code: 'not_found' }
  expect(access.list(ADA).map((info) => info.id)).toEqual([id])
  expect(access.list(BOB)).toEqual([])
  expect(() => access.get(BOB, id)).toThrow(expect.objectContaining(notFound))
  await expect(access.exec(BOB, id, request)).rejects.toMatchObject(notFound)
  expect(() => access.execStream(BOB, id, request)).toThrow(expect.objectContaining(notFound))
  await expect(access.shell(BOB, id, { argv: undefined, terminal: undefined })).rejects.toMatchObject(notFound)
  await expect(access.readFile(BOB, id, '/etc/passwd')).rejects.toMatchObject(notFound)
  await expect(access.writeFile(BOB, id, '/tmp/x', Readable.from([]))).rejects.toMatchObject(notFound)
  await expect(access.destroy(BOB, id)).rejects.toMatchObject(notFound)
  expect(machines.list().length).toBe(1)
})

test('a machine for which there is no room is refused, also while others are only asked for', async () => {
  const small = MachineRequest.parse({ memoryMib: 512, vcpus: 1 })
  for (const few of [{ memoryMib: 1024 }, { machines: 2 }, { vcpus: 2 }]) {
    await using set = await setUp(few)
    const asked = await Promise.allSettled([1, 2, 3].map(() => set.access.create(ADA, small)))
    expect(asked.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected'])
    expect(asked[2]).toMatchObject({ reason: { code: 'queue_full' } })
    const [first] = set.access.list(ADA)
    await set.access.destroy(ADA, first?.id ?? '')
    await set.access.create(BOB, small)
    expect(set.machines.list()).toHaveLength(2)
  }
})

test('a machine without a task has a way out of its own, open as long as it lives', async () => {
  await using set = await setUp()
  const network = { allow: ['example.org'] }
  const { id } = await set.access.create(ADA, MachineRequest.parse({ memoryMib: 512, vcpus: 1, network }))
  expect(set.opened).toEqual([{ machineId: id, userId: ADA, taskId: null, policy: network, maxCostUsd: undefined }])
  expect(set.closed()).toBe(0)
  await set.access.destroy(ADA, id)
  expect(set.closed()).toBe(1)
  expect(set.access.list(ADA)).toEqual([])
})

test('a machine that dies is cleared away and its way out closed; one that never starts leaves none open', async () => {
  await using set = await setUp()
  await set.access.create(ADA, MachineRequest.parse({ memoryMib: 512, vcpus: 1 }))
  const { pid } = await set.database.selectFrom('machines').select('pid').executeTakeFirstOrThrow()
  process.kill(pid ?? 0, 'SIGKILL')
  await expect.poll(() => set.closed()).toBe(1)
  await expect.poll(() => set.access.list(ADA)).toEqual([])
  set.engine.behaviour.create = 'fail'
  await expect(set.access.create(ADA, MachineRequest.parse({ memoryMib: 512 }))).rejects.toThrow('no VMM today')
  expect(set.closed()).toBe(2)
})

test('a command goes through a shell as the ordinary user; a signal becomes 128 + its number', async () => {
  await using set = await setUp()
  const machine = await set.machines.create(REQUEST)
  const specs: unknown[] = []
  script(machine.link, {
    exec: async (spec, options) => {
      specs.push({ ...spec, timeoutMs: options.timeoutMs, stdin: options.stdin?.toString() })
      const exit = { code: null, signal: 'SIGTERM', outOfMemory: false }
      return { exit, stdout: Buffer.from('é'), stderr: Buffer.from(''), truncated: false, timedOut: true }
    },
  })
  const answer = await set.access.exec(
    ADA,
    machine.id,
    ExecRequest.parse({ command: 'a; b', stdin: 'in', timeoutSeconds: 2 }),
  )
  expect(answer).toEqual({ exitCode: 143, stdout: 'é', stderr: '', truncated: false, timedOut: true })
  await set.access.exec(ADA, machine.id, ExecRequest.parse({ argv: ['ls', '-l'], cwd: '/tmp', env: { A: '1' } }))
  expect(specs).toEqual([
    { argv: ['bash', '-lc', 'a; b'], cwd: '/workspace', env: {}, user: 'agent', timeoutMs: 2000, stdin: 'in' },
    { argv: ['ls', '-l'], cwd: '/tmp', env: { A: '1' }, user: 'agent', timeoutMs: 60_000, stdin: undefined },
  ])
})

test('leaving a live command early kills it, reading it to its end does not', async () => {
  await using set = await setUp()
  const machine = await set.machines.create(REQUEST)
  const killed: string[] = []
  const started: ExecSpec[] = []
  const pieces: ExecOutput[] = [
    { kind: 'stdout', data: Buffer.from('one'), next: 8 },
    { kind: 'exit', exit: { code: 0, signal: null, outOfMemory: false }, next: 20 },
  ]
  script(machine.link, {
    start: async (_, spec) => void started.push(spec),
    kill: async (_, signal) => void killed.push(signal),
    output: async function* () {
      yield* pieces
    },
  })
  const request = ExecRequest.parse({ command: 'yes' })
  expect(await Array.fromAsync(set.access.execStream(ADA, machine.id, request))).toEqual(pieces)
  expect(killed).toEqual([])
  for await (const piece of set.access.execStream(ADA, machine.id, request)) if (piece.kind === 'stdout') break
  expect(killed).toEqual(['SIGKILL'])
  expect(started.map(({ stdin }) => stdin)).toEqual(['none', 'none'])
})
