import { expect, test } from 'vitest'
import { moduleDependencies, modulesInOrder } from './modules.ts'

const module = (depends: string) => Buffer.from(`\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`)
const KERNEL: Record<string, Buffer> = {
  virtio_net: module('net_failover,virtio,virtio_ring'),
  net_failover: module('failover'),
  failover: module(''),
  virtio_ring: module(''),
  virtio: module('virtio_ring'),
  overlay: module(''),
}

test('a module says itself what it depends on', () => {
  expect(moduleDependencies(module('a,b-c'))).toEqual(['a', 'b-c'])
  expect(moduleDependencies(module(''))).toEqual([])
  expect(moduleDependencies(Buffer.from('no module information'))).toEqual([])
})

test('every module comes once, after all it depends on; what is built in is left out', async () => {
  const load = async (name: string) => KERNEL[name]
  const ordered = await modulesInOrder(['virtio-net', 'ext4', 'overlay', 'virtio'], load)
  expect(ordered.map(({ name }) => name)).toEqual([
    'failover',
    'net_failover',
    'virtio_ring',
    'virtio',
    'virtio_net',
    'overlay',
  ])
})

test('modules that depend on each other do not hang the build', async () => {
  const load = async (name: string) => module(name === 'a' ? 'b' : 'a')
  expect((await modulesInOrder(['a'], load)).map(({ name }) => name)).toEqual(['b', 'a'])
})
