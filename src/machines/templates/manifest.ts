import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { TemplateName } from '../../contracts/template.ts'
import { findChange, type Dependencies } from '../dependencies.ts'

/** What tells that a file is the one that was written: all of it changes when somebody writes to it or puts another in its place. */
const Fingerprint = z.object({ inode: z.string(), bytes: z.string(), modified: z.string(), changed: z.string() })
type Fingerprint = z.infer<typeof Fingerprint>

/** Written beside a template's files, last, so that a folder without one is none. */
export const Manifest = z.object({
  name: TemplateName,
  memoryMib: z.int(),
  vcpus: z.int(),
  memory: z.enum(['mapped', 'stream']),
  /** Everything the template depends on, by name, in words for people. */
  dependsOn: z.record(z.string(), z.string()),
  builtAt: z.iso.datetime(),
  /** By file name. */
  files: z.record(z.string(), Fingerprint),
})
export type Manifest = z.infer<typeof Manifest>

export const MANIFEST_FILE = 'manifest.json'

/**
 * Files that a VMM under attack could write to. Not the disk: VMMs get it read-only, and links to it change its times.
 */
const GUARDED = ['memory', 'state']

/** Fingerprints of the files of a template folder that must never change. */
export async function fingerprints(folder: string): Promise<Record<string, Fingerprint>> {
  const entries = await Promise.all(
    GUARDED.map(async (name) => {
      const found = await stat(join(folder, name), { bigint: true }).catch(() => undefined) // `memory` may not be there
      if (found === undefined) return undefined
      const { ino, size, mtimeNs, ctimeNs } = found
      return [name, { inode: `${ino}`, bytes: `${size}`, modified: `${mtimeNs}`, changed: `${ctimeNs}` }] as const
    }),
  )
  return Object.fromEntries(entries.filter((entry) => entry !== undefined))
}

/** Why a template must not be used, in words; undefined when nothing speaks against it. */
export async function findObjection(
  folder: string,
  manifest: Manifest,
  dependsOn: Dependencies,
): Promise<string | undefined> {
  const change = findChange(manifest.dependsOn, dependsOn)
  if (change !== undefined) return change
  const found = await fingerprints(folder)
  for (const [name, expected] of Object.entries(manifest.files))
    if (JSON.stringify(found[name]) !== JSON.stringify(expected)) return `its file ${name} was changed or replaced`
  return undefined
}
