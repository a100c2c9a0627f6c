import { SCRATCH_FORMAT, type GuestImage } from '../images/types.ts'
import type { Engine } from './types.ts'

/** What a saved machine can't do without, by name and in words for people, e.g. `{vmm: 'QEMU 7.2.22'}`. */
export type Dependencies = Readonly<Record<string, string>>

/** What any machine that is saved now depends on: one that was saved with something else must not be restored. */
export async function dependenciesOf(
  engine: Engine,
  image: GuestImage | undefined,
  scratchMib: number,
): Promise<Dependencies> {
  return {
    ...(await engine.compatibility()),
    'guest image': image?.manifest.key ?? 'not built yet',
    'scratch disk': `${scratchMib} MiB, format ${SCRATCH_FORMAT}`,
  }
}

/** What has changed first, in words; undefined where nothing has. */
export function findChange(before: Dependencies, now: Dependencies): string | undefined {
  for (const name of new Set([...Object.keys(now), ...Object.keys(before)]))
    if (before[name] !== now[name]) return `the ${name} has changed: ${before[name] ?? 'none'} → ${now[name] ?? 'none'}`
  return undefined
}
