import { expect, test } from 'vitest'
import { incomingState, qemuArgs, type QemuConfig } from './args.ts'

const CONFIG: QemuConfig = {
  id: 'vm_000000000000',
  accel: 'tcg',
  version: [7, 2],
  memoryMib: 2048,
  vcpus: 2,
  boot: { kernelFd: 4, initrdFd: 5, kernelArgs: [] },
  memory: { kind: 'anonymous' },
  disks: { rootFd: 6, baseFd: 7, layerFd: null, scratchFd: 8 },
}

/** The values that follow each occurrence of a flag. */
function valuesOf(args: string[], flag: string): string[] {
  return args.flatMap((arg, index) => (arg === flag ? [args[index + 1] ?? ''] : []))
}

test('a machine has the two ports of the link and no network card', () => {
  const devices = valuesOf(qemuArgs(CONFIG), '-device')
  expect(devices.filter((device) => device.startsWith('virtserialport'))).toEqual([
    expect.stringContaining('name=vivarium.control'),
    expect.stringContaining('name=vivarium.egress'),
  ])
  expect(devices.filter((device) => device.includes('net'))).toEqual([])
  expect(qemuArgs(CONFIG)).not.toContain('-nic')
})

test('root image and scratch base are read-only, the scratch disk lies over the base', () => {
  const disks = valuesOf(qemuArgs(CONFIG), '-blockdev').map((json): Record<string, unknown> => JSON.parse(json))
  expect(disks).toMatchObject([
    { 'node-name': 'root', driver: 'raw', 'read-only': true },
    { 'node-name': 'scratch-base', driver: 'raw', 'read-only': true },
    { 'node-name': 'scratch', driver: 'qcow2', backing: 'scratch-base' },
  ])
  expect(disks[2]).not.toHaveProperty('read-only')
})

test('the guest stands still at first, and QEMU may start no process', () => {
  const args = qemuArgs(CONFIG)
  expect(args).toContain('-S')
  expect(valuesOf(args, '-sandbox')).toEqual([
    'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
  ])
})

test('the accelerator decides about processor and emulation', () => {
  expect(valuesOf(qemuArgs(CONFIG), '-accel')).toEqual(['tcg,thread=multi,tb-size=512'])
  expect(valuesOf(qemuArgs(CONFIG), '-cpu')).toEqual(['max,erms=off'])
  expect(valuesOf(qemuArgs({ ...CONFIG, accel: 'kvm' }), '-cpu')).toEqual(['host'])
})

test('hardware virtualisation restores from the same files with the same machine', () => {
  const saved = { memory: { kind: 'private', fd: 9, openReadOnly: true }, boot: null } as const
  const [kvm, tcg] = (['kvm', 'tcg'] as const).map((accel) => qemuArgs({ ...CONFIG, ...saved, accel }))
  const withoutProcessor = (args: string[] = []) =>
    args.filter((arg, index) => !['-accel', '-cpu'].some((flag) => [arg, args[index - 1]].includes(flag)))
  expect(withoutProcessor(kvm)).toEqual(withoutProcessor(tcg))
  expect(valuesOf(kvm ?? [], '-accel')).toEqual(['kvm'])
})

test('the option to dial again has the name that each QEMU knows', () => {
  const dial = (version: [number, number]) => valuesOf(qemuArgs({ ...CONFIG, version }), '-chardev').join(' ')
  expect(dial([9, 1])).toContain('reconnect=1')
  expect(dial([9, 2])).toContain('reconnect-ms=200')
  expect(dial([10, 0])).toContain('reconnect-ms=200')
})

test('a probe boots the kernel alone', () => {
  const args = qemuArgs({
    ...CONFIG,
    disks: null,
    boot: { kernelFd: 4, initrdFd: 5, kernelArgs: ['vivarium.probe=1'] },
  })
  expect(valuesOf(args, '-append')[0]).toContain('vivarium.probe=1')
  expect(args.join(' ')).not.toMatch(/blockdev|virtserialport|add-fd/)
})

test('a machine that goes on waits for its state, and boots no kernel', () => {
  const args = qemuArgs({ ...CONFIG, boot: null })
  expect(valuesOf(args, '-incoming')).toEqual(['defer'])
  expect(args).toContain('-S')
  expect(args).not.toContain('-kernel')
  expect(qemuArgs(CONFIG)).not.toContain('-incoming')
})

test("a saved machine's state is read in the way that each QEMU knows", () => {
  expect(incomingState([7, 2], 9)).toEqual({ args: [], uri: 'fd:9' })
  expect(incomingState([10, 0], 9)).toEqual({ args: ['-add-fd', 'fd=9,set=9'], uri: 'file:/dev/fdset/9' })
})

test('RAM has one name wherever it lies, and is only ever shared by the machine that others will map', () => {
  const memory = (config: QemuConfig['memory']) => valuesOf(qemuArgs({ ...CONFIG, memory: config }), '-object')[0]
  expect(valuesOf(qemuArgs(CONFIG), '-M')).toEqual(['q35,memory-backend=m0'])
  expect(memory({ kind: 'anonymous' })).toBe('memory-backend-ram,id=m0,size=2048M')
  const file = 'memory-backend-file,id=m0,size=2048M,mem-path=/proc/self/fd/9'
  expect(memory({ kind: 'shared', fd: 9 })).toBe(`${file},share=on`)
  expect(memory({ kind: 'private', fd: 9, openReadOnly: false })).toBe(`${file},share=off`)
  expect(memory({ kind: 'private', fd: 9, openReadOnly: true })).toBe(`${file},share=off,readonly=on,rom=off`)
})

test("a saved machine's disk lies between base and scratch, and can't be written", () => {
  const args = qemuArgs({ ...CONFIG, disks: { rootFd: 6, baseFd: 7, layerFd: 8, scratchFd: 9 } })
  const disks = valuesOf(args, '-blockdev').map((json): Record<string, unknown> => JSON.parse(json))
  expect(disks.slice(2)).toMatchObject([
    { 'node-name': 'scratch-layer', driver: 'qcow2', backing: 'scratch-base', 'read-only': true },
    { 'node-name': 'scratch', driver: 'qcow2', backing: 'scratch-layer' },
  ])
  expect(disks[2]).toMatchObject({ file: { filename: '/dev/fdset/8', 'read-only': true } })
})
