import { expect, test } from 'vitest'
import type { MachineInfo } from '../contracts/machine.ts'
import { createCapacity } from './capacity.ts'
import { NOBODY } from './types.ts'

const SIZE = { memoryMib: 1024, vcpus: 2 }
const LIMITS = {
  memoryMib: 4096,
  vcpus: 8,
  machines: 4,
  largest: { memoryMib: 4096, vcpus: 8 },
  minFreeDiskMib: 1000,
  expectedDiskMib: 100,
}

function machine(id: string, more: Partial<MachineInfo> = {}): MachineInfo {
  const origin = { startedFrom: 'boot' as const, template: null, keepUntil: null, phases: [], error: null }
  const use = { userId: 'u_1', taskId: null, state: 'ready', engine: 'qemu-tcg' } as const
  return { id, ...use, ...SIZE, createdAt: '', ...origin, ...more }
}

function setUp(...machines: MachineInfo[]) {
  const host = { machines, freeDiskMib: 10_000 }
  const capacity = createCapacity({
    limits: LIMITS,
    machines: { list: () => host.machines },
    freeDiskBytes: () => host.freeDiskMib * 1024 ** 2,
  })
  return { host, capacity }
}

test('a machine counts while it is in memory and somebody has it', () => {
  const { capacity } = setUp(
    machine('vm_1'),
    machine('vm_2', { state: 'booting' }),
    machine('vm_3', { state: 'suspended' }),
    machine('vm_4', { userId: NOBODY }),
    machine('vm_5', { state: 'gone' }),
  )
  expect(capacity.free()).toEqual({ machines: 2, memoryMib: 2048, vcpus: 4, diskMib: 8800 })
})

test('a claim counts from the moment it is taken, and its machine is not counted again', () => {
  const { capacity, host } = setUp()
  const room = capacity.take({ ids: ['t_1', 't_0'], memoryMib: 2048, vcpus: 1 })
  const claimed = { machines: 3, memoryMib: 2048, vcpus: 7, diskMib: 8900 }
  expect(capacity.free()).toEqual(claimed)
  host.machines = [machine('vm_1', { taskId: 't_1', memoryMib: 2048, vcpus: 1 })]
  expect(capacity.free()).toEqual(claimed)
  expect(host.machines.map((info) => capacity.isClaimed(info))).toEqual([true])
  host.machines = [machine('vm_0', { taskId: 't_0' })]
  expect(capacity.free()).toEqual(claimed)
  room[Symbol.dispose]()
  expect(capacity.free()).toEqual({ machines: 3, memoryMib: 3072, vcpus: 6, diskMib: 8900 })
  expect(host.machines.map((info) => capacity.isClaimed(info))).toEqual([false])
})

test('the room can be seen as it were without some claims and their machines', () => {
  const { capacity } = setUp(machine('vm_1', { taskId: 't_1' }), machine('vm_2', { taskId: 't_2' }), machine('vm_3'))
  const [first, second] = [
    { ids: ['t_1'], ...SIZE },
    { ids: ['t_2'], ...SIZE },
  ]
  capacity.take(first)
  expect(capacity.free([first]).machines).toBe(2)
  expect(capacity.free([first, second]).machines).toBe(3)
})

test('what is missing is said in words', () => {
  const { capacity, host } = setUp()
  const missing = (...sizes: Parameters<typeof capacity.shortage>[0]) => capacity.shortage(sizes, capacity.free())
  expect(missing(SIZE, SIZE, SIZE, SIZE)).toBeUndefined()
  expect(missing(SIZE, SIZE, SIZE, SIZE, SIZE)).toEqual({ of: 'machines', words: '1 free machine' })
  expect(missing({ memoryMib: 4096 + 512, vcpus: 1 })).toEqual({ of: 'memory', words: '512 MiB' })
  expect(missing({ memoryMib: 4096 + 1536, vcpus: 1 })).toEqual({ of: 'memory', words: '1.5 GiB' })
  expect(missing({ memoryMib: 512, vcpus: 10 })).toEqual({ of: 'vcpus', words: '2 virtual processors' })
  host.freeDiskMib = 1199
  expect(missing(SIZE, SIZE)).toEqual({ of: 'disk', words: '1 MiB of free disk space' })
  expect(missing(SIZE)).toBeUndefined()
})
