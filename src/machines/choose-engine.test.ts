import { expect, test } from 'vitest'
import type { EngineName } from '../contracts/machine.ts'
import { chooseEngine } from './choose-engine.ts'
import type { Engine } from './types.ts'

function engine(name: EngineName, works: boolean): Engine {
  return {
    name,
    capabilities: { hardwareIsolation: false, snapshots: false, tap: false },
    timeScale: 1,
    probe: async () => ({
      engine: name,
      works,
      version: '1',
      reason: works ? null : 'it is broken',
      fix: works ? null : `mend ${name}`,
    }),
    create: async () => expect.unreachable(),
    restore: async () => expect.unreachable(),
    compatibility: async () => ({}),
    mapsReadOnly: async () => false,
    reboot: async () => expect.unreachable(),
    adopt: async () => expect.unreachable(),
  }
}

test('auto takes the first engine that works', async () => {
  const engines = [engine('qemu-kvm', false), engine('qemu-tcg', true)]
  expect((await chooseEngine('auto', engines)).name).toBe('qemu-tcg')
})

test('a named engine that does not work is not replaced by another', async () => {
  const engines = [engine('qemu-kvm', false), engine('qemu-tcg', true)]
  await expect(chooseEngine('qemu-kvm', engines)).rejects.toMatchObject({
    code: 'setup_required',
    message: 'No machine can be started here. qemu-kvm: it is broken. To mend it: mend qemu-kvm.',
  })
})

test('an engine that this version lacks is refused in words', async () => {
  const chosen = chooseEngine('firecracker', [engine('qemu-tcg', true)])
  await expect(chosen).rejects.toMatchObject({
    code: 'setup_required',
    message: expect.stringContaining('not supported'),
  })
})
