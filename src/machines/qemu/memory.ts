import { chmod, open } from 'node:fs/promises'
import { join } from 'node:path'
import { copySparse, exists } from './disks.ts'
import type { SavedMachine, VmmSpec } from '../types.ts'
import { FILES } from './disk-folder.ts'
import type { Qemu } from './host.ts'

const MIB = 1024 * 1024

/** Where a guest's RAM lies: in memory alone, in a file that others will map, or in another machine's file, copied on write. */
export type MemorySource = { kind: 'anonymous' } | { kind: 'shared' | 'private'; path: string }

/** Whether this QEMU maps a file privately without opening it for writing (`readonly=on,rom=off`). */
export function canMapReadOnly({ version: { number } }: Qemu): boolean {
  const [major, minor] = number
  return major > 8 || (major === 8 && minor >= 2)
}

/** What a machine leaves of its RAM beside its state: nothing, or a file, which is `sealed` where QEMU maps one that nobody can write. */
export type MemoryFile = 'none' | 'open' | 'sealed'

export function memoryFileOf(spec: VmmSpec, qemu: Qemu): MemoryFile {
  if (spec.memory === 'anonymous') return 'none'
  return canMapReadOnly(qemu) ? 'sealed' : 'open'
}

/** RAM for a machine that boots. */
export async function newMemory(spec: VmmSpec): Promise<MemorySource> {
  if (spec.memory === 'anonymous') return { kind: 'anonymous' }
  const path = join(spec.diskDir, FILES.memory)
  await using file = await open(path, 'wx', 0o600)
  await file.truncate(spec.memoryMib * MIB)
  await openToVmm(path, spec.uid)
  return { kind: 'shared', path }
}

/** RAM for a machine that goes on from a saved one; `mapped` says that the saved one left its own in a file. */
export async function takeMemory(
  spec: VmmSpec,
  from: SavedMachine,
): Promise<{ source: MemorySource; mapped: boolean }> {
  const saved = join(from.folder, FILES.memory)
  const mapped = await exists(saved)
  if (!mapped) return { source: await newMemory(spec), mapped }
  if (spec.memory === 'anonymous') return { source: { kind: 'private', path: saved }, mapped }
  const path = join(spec.diskDir, FILES.memory)
  await copySparse(saved, path)
  await openToVmm(path, spec.uid)
  return { source: { kind: 'shared', path }, mapped }
}

/**
 * A VMM under its own uid opens the file anew through the descriptor that it inherits, so the file's mode counts. Who has
 * no such descriptor does not get past the disk folder, which is closed.
 */
async function openToVmm(path: string, uid: number | undefined): Promise<void> {
  if (uid !== undefined) await chmod(path, 0o666)
}
