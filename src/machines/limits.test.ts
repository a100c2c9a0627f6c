import { expect, test } from 'vitest'
import { capacityLimits, refuseTooLarge } from './limits.ts'

const LARGEST = { memoryMib: 4096, vcpus: 4 }
const DERIVED = { totalMemoryMib: 0, vcpusPerCore: 4, maxMachines: 0, minFreeDiskMib: 0, expectedDiskMib: 1024 }
const HOST = { memoryBytes: 16 * 1024 ** 3, cores: 4 }
const GIB = 1024 ** 3

test('a machine that this host can never start is refused, naming the field and the limit', () => {
  expect(() => refuseTooLarge(LARGEST, LARGEST)).not.toThrow()
  expect(() => refuseTooLarge({ memoryMib: 4097, vcpus: 1 }, LARGEST)).toThrow(
    expect.objectContaining({
      code: 'machine_too_large',
      field: 'memoryMib',
      message: expect.stringContaining('4096'),
    }),
  )
  expect(() => refuseTooLarge({ memoryMib: 512, vcpus: 5 }, LARGEST)).toThrow(
    expect.objectContaining({ code: 'machine_too_large', field: 'vcpus' }),
  )
})

test('limits come from the host where nothing is set', () => {
  expect(capacityLimits(DERIVED, 100 * GIB, HOST)).toEqual({
    memoryMib: 12_288,
    vcpus: 16,
    machines: 8,
    largest: { memoryMib: 12_288, vcpus: 16 },
    minFreeDiskMib: 5120,
    expectedDiskMib: 1024,
  })
  expect(capacityLimits(DERIVED, GIB, HOST).minFreeDiskMib).toBe(1024)
  expect(capacityLimits(DERIVED, 1000 * GIB, HOST).minFreeDiskMib).toBe(16_384)
  expect(capacityLimits(DERIVED, GIB, { memoryBytes: GIB, cores: 1 })).toMatchObject({ vcpus: 4, machines: 2 })
})

test('what is set counts; memory may be promised beyond what there is, but not to one machine', () => {
  const set = { totalMemoryMib: 65_536, vcpusPerCore: 0.5, maxMachines: 3, minFreeDiskMib: 7, expectedDiskMib: 0 }
  expect(capacityLimits(set, GIB, HOST)).toEqual({
    memoryMib: 65_536,
    vcpus: 2,
    machines: 3,
    largest: { memoryMib: 16_384, vcpus: 2 },
    minFreeDiskMib: 7,
    expectedDiskMib: 0,
  })
})
