import { createHash, randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { publish } from '../../files/atomic.ts'
import { abandonedIn, ownTag } from '../../files/owner.ts'
import type { FoundLeak } from '../../reaper/types.ts'
import { fingerprints, Manifest, MANIFEST_FILE } from './manifest.ts'

/** A template on the disk. */
export interface StoredTemplate {
  folder: string
  manifest: Manifest
  bytes: number
  lastUsedAt: Date
}

/** What a template is looked for by. */
export type TemplateKey = Pick<Manifest, 'name' | 'memoryMib' | 'vcpus' | 'memory' | 'dependsOn'>

const BUILDING = '.new-'
const REMOVING = '.old-'
const BLOCK_BYTES = 512

/**
 * The folder of templates: each is a folder of its own that appears whole, is never changed, and has a name that no other one
 * will have. So whoever has found a template starts from it or from nothing: never from parts of it and of the one that was
 * put in its place. Several orchestrators may share the folder, so whoever builds leaves a trace of who it is, and nobody
 * removes what another is building.
 */
export class TemplateStore {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** The newest template with this key, if there is one. */
  async find(key: TemplateKey): Promise<StoredTemplate | undefined> {
    return (await this.#all(key))[0]
  }

  /** Whether the template in a folder was built for this key, also when it is gone. */
  isOf(folder: string, key: TemplateKey): boolean {
    return folder.startsWith(join(this.#folder, nameOf(key)))
  }

  /** A folder to build in, which does not exist yet; on the same file system, so that it can be renamed. */
  async buildFolder(): Promise<string> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    return join(this.#folder, `${BUILDING}${await ownTag()}`)
  }

  /** Makes a finished build folder a template, and removes those of the same key: returns it, and their folders. */
  async publish(built: string, key: TemplateKey): Promise<{ template: StoredTemplate; replaced: string[] }> {
    const place = join(this.#folder, `${nameOf(key)}${randomBytes(4).toString('hex')}`)
    const manifest: Manifest = { ...key, builtAt: new Date().toISOString(), files: await fingerprints(built) }
    await writeFile(join(built, MANIFEST_FILE), JSON.stringify(manifest, null, 2), { mode: 0o600 })
    const before = await this.#all(key)
    await publish(built, place, 0o700)
    const replaced = before.map(({ folder }) => folder)
    for (const folder of replaced) await this.remove(folder)
    const template = await this.read(place)
    if (template === undefined) throw new Error(`the template ${place} vanished`)
    return { template, replaced }
  }

  /** The template in a folder, or undefined where there is none that can be read. */
  async read(folder: string): Promise<StoredTemplate | undefined> {
    try {
      const path = join(folder, MANIFEST_FILE)
      const manifest = Manifest.parse(JSON.parse(await readFile(path, 'utf8')))
      return { folder, manifest, bytes: await allocated(folder), lastUsedAt: (await lstat(path)).mtime }
    } catch {
      return undefined // not there, half removed, or of another version
    }
  }

  /** Templates whose folders' names begin with `prefix`. */
  async list(prefix = ''): Promise<StoredTemplate[]> {
    const names = await readdir(this.#folder).catch(() => []) // none built yet
    const wanted = names.filter((name) => name.startsWith(prefix) && !name.startsWith('.'))
    const read = await Promise.all(wanted.map((name) => this.read(join(this.#folder, name))))
    return read.filter((template) => template !== undefined)
  }

  /** Marks a template as used now. */
  async touch({ folder }: StoredTemplate): Promise<void> {
    const now = new Date()
    await utimes(join(folder, MANIFEST_FILE), now, now).catch(() => {}) // removed meanwhile: the start will find out
  }

  /** Removes a template, or what was built of one, under another name first, so that nobody finds a part of it. Machines that run from it go on. */
  async remove(folder: string): Promise<void> {
    const doomed = join(this.#folder, `${REMOVING}${randomBytes(6).toString('hex')}`)
    const moved = await rename(folder, doomed).then(
      () => true,
      () => false, // not there
    )
    if (moved) await discardFolder(doomed)
  }

  /** Removes the longest unused templates but `keep`, until all take at most `maxBytes`; returns those. */
  async limit(maxBytes: number, keep: string | undefined): Promise<StoredTemplate[]> {
    const removed: StoredTemplate[] = []
    const templates = (await this.list()).toSorted((a, b) => a.lastUsedAt.getTime() - b.lastUsedAt.getTime())
    let total = templates.reduce((sum, { bytes }) => sum + bytes, 0)
    for (const template of templates) {
      if (total <= maxBytes) break
      if (template.folder === keep) continue
      await this.remove(template.folder)
      total -= template.bytes
      removed.push(template)
    }
    return removed
  }

  /** What builders that are gone have left, and what was not removed to its end. */
  async leftovers(): Promise<FoundLeak[]> {
    const removed = (await readdir(this.#folder).catch(() => [])).filter((name) => name.startsWith(REMOVING))
    const built = await abandonedIn(this.#folder, BUILDING)
    const leak = (path: string, why: string): FoundLeak => {
      return { kind: 'folder', what: path, why, remove: () => rm(path, { recursive: true, force: true }) }
    }
    return [
      ...removed.map((name) => leak(join(this.#folder, name), 'a template that was removed, though not to its end')),
      ...built.map((path) => leak(path, 'a template whose builder is gone')),
    ]
  }

  /** Those with this key, the newest first. */
  async #all(key: TemplateKey): Promise<StoredTemplate[]> {
    const found = await this.list(nameOf(key))
    return found.toSorted((a, b) => b.manifest.builtAt.localeCompare(a.manifest.builtAt))
  }
}

/** How the folders of all templates of a key begin: with what people ask for, and a digest of what they depend on. */
function nameOf({ name, vcpus, memoryMib, memory, dependsOn }: TemplateKey): string {
  const facts = JSON.stringify(Object.entries(dependsOn).toSorted())
  const digest = createHash('sha256').update(facts).digest('hex').slice(0, 12)
  return `${name}.${vcpus}x${memoryMib}.${memory}.${digest}.`
}

/** Removes a folder that is of no use to anybody. Several may do so at once; what one can't remove, the next build tries again. */
async function discardFolder(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => {})
}

/** What the files of a folder take on the disk. */
async function allocated(folder: string): Promise<number> {
  const names = await readdir(folder)
  const stats = await Promise.all(names.map((name) => lstat(join(folder, name))))
  return stats.reduce((sum, { blocks }) => sum + blocks * BLOCK_BYTES, 0)
}
