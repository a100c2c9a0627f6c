import { release } from 'node:os'
import { expect, test } from 'vitest'
import { describeCompatibility, parseCpuInfo } from './compatibility.ts'

const QEMU = { path: '/usr/bin/qemu-system-x86_64', version: { text: '7.2.22', number: [7, 2] as [number, number] } }

test('a saved machine depends on QEMU, accelerator, processor and the way the machine is put together', async () => {
  const tcg = await describeCompatibility('tcg', QEMU)
  expect(tcg).toMatchObject({ vmm: 'QEMU 7.2.22', accelerator: 'tcg' })
  expect(Object.keys(tcg).toSorted()).toEqual(['accelerator', 'devices', 'format', 'processor', 'vmm'])
  expect(await describeCompatibility('tcg', QEMU)).toEqual(tcg)
})

test("with hardware virtualisation also on the processor's features and the host's kernel", async () => {
  const kvm = await describeCompatibility('kvm', QEMU)
  expect(kvm).toMatchObject({ accelerator: 'kvm', hostKernel: `Linux ${release()}` })
  expect(kvm['features']).toMatch(/^[0-9a-f]{16}$/)
  expect(kvm['devices']).not.toBe((await describeCompatibility('tcg', QEMU))['devices'])
})

test('the processor is read from /proc/cpuinfo; the order of its features does not matter', () => {
  const info = (flags: string) => `processor\t: 0\nmodel name\t: AMD EPYC 7R13\nflags\t\t: ${flags}\n\nprocessor\t: 1\n`
  expect(parseCpuInfo(info('sse avx'))).toEqual({ model: 'AMD EPYC 7R13', features: 'avx sse' })
  expect(parseCpuInfo(info('avx sse'))).toEqual(parseCpuInfo(info('sse avx')))
  expect(parseCpuInfo('')).toEqual({ model: 'unknown', features: 'unknown' })
})
