import { newId } from '../../contracts/ids.ts'
import type { HousedMachine } from '../housed-machine.ts'
import { NOBODY, type Engine, type MachineOptions, type MachineUse, type VmmSpec } from '../types.ts'
import { warmUp, type WarmUpOptions } from './warm-up.ts'

/** From a warm guest to a template on the disk, with hardware virtualisation. */
const SAVE_MS = 60_000

export interface BakeOptions extends WarmUpOptions {
  /** Where the saved machine is to be; does not exist yet. */
  folder: string
  memoryMib: number
  vcpus: number
  memory: 'mapped' | 'stream'
}

/** The way out of a machine in which a warm-up script runs. */
export interface WarmEgress extends AsyncDisposable {
  accept: NonNullable<MachineUse['egress']>
}

export interface BakeServices {
  engine: () => Promise<Engine>
  warmEgress: (machineId: string, allow: readonly string[]) => WarmEgress
  /** Boots a machine with its disks in `diskDir`. */
  boot: (
    request: MachineOptions,
    engine: Engine,
    origin: { memory: VmmSpec['memory']; diskDir: string },
  ) => Promise<HousedMachine>
}

/** Boots a machine in the template's own folder, warms it up, and leaves it saved there. Leaves nothing where that fails. */
export async function bake(
  services: BakeServices,
  { folder, memoryMib, vcpus, memory, progress, signal, ...script }: BakeOptions,
): Promise<void> {
  const engine = await services.engine()
  const id = newId('vm')
  await using egress = services.warmEgress(id, script.warm?.allow ?? [])
  progress({ step: 'booting' })
  const use = { userId: NOBODY, taskId: null, egress: egress.accept }
  const request = { ...use, id, memoryMib, vcpus, signal }
  const origin = { memory: memory === 'mapped' ? 'file' : 'anonymous', diskDir: folder } as const
  const machine = await services.boot(request, engine, origin)
  try {
    await warmUp(machine.link, { ...script, progress, signal }, engine.timeScale)
    progress({ step: 'saving' })
    await machine.saveAtRest(AbortSignal.any([AbortSignal.timeout(SAVE_MS * engine.timeScale), signal]))
  } finally {
    await machine.destroy()
  }
}
