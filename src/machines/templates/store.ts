import { createHash, randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { publish } from '../../files/atomic.ts'
import { identify, isRunning } from '../process-identity.ts'
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
 * The folder of templates: each is a folder of its own that appears whole and is never changed. Several orchestrators may share
 * it, so that whoever builds leaves a trace of who it is, and nobody removes what another is building.
 */
export class TemplateStore {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  /** Where a template with this key stands, if it is there. The key's dependencies are part of its name. */
  place(key: TemplateKey): string {
    const digest = createHash('sha256')
      .update(JSON.stringify(Object.entries(key.dependsOn).toSorted()))
      .digest('hex')
    return join(this.#folder, `${key.name}.${key.vcpus}x${key.memoryMib}.${key.memory}.${digest.slice(0, 12)}`)
  }

  /** A folder to build in, which does not exist yet; on the same file system, so that it can be renamed. */
  async buildFolder(): Promise<string> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    const self = await identify(process.pid)
    return join(this.#folder, `${BUILDING}${process.pid}.${self?.startTime ?? 0}.${randomBytes(4).toString('hex')}`)
  }

  /** Makes a finished build folder the template of its key, in the place of one that was there. */
  async publish(built: string, key: TemplateKey): Promise<StoredTemplate> {
    const place = this.place(key)
    const manifest: Manifest = { ...key, builtAt: new Date().toISOString(), files: await fingerprints(built) }
    await writeFile(join(built, MANIFEST_FILE), JSON.stringify(manifest, null, 2), { mode: 0o600 })
    await this.remove(place)
    await publish(built, place, 0o700)
    const stored = await this.read(place)
    if (stored === undefined) throw new Error(`the template ${place} vanished`)
    return stored
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

  async list(): Promise<StoredTemplate[]> {
    const names = await readdir(this.#folder).catch(() => []) // none built yet
    const read = await Promise.all(
      names.filter((name) => !name.startsWith('.')).map((name) => this.read(join(this.#folder, name))),
    )
    return read.filter((template) => template !== undefined)
  }

  /** Marks a template as used now. */
  async touch({ folder }: StoredTemplate): Promise<void> {
    const now = new Date()
    await utimes(join(folder, MANIFEST_FILE), now, now).catch(() => {}) // removed meanwhile: the start will find out
  }

  /** Removes a template, under another name first, so that nobody finds a part of it. Machines that run from it go on. */
  async remove(folder: string): Promise<void> {
    const doomed = join(this.#folder, `${REMOVING}${randomBytes(6).toString('hex')}`)
    const moved = await rename(folder, doomed).then(
      () => true,
      () => false, // not there
    )
    if (moved) await rm(doomed, { recursive: true, force: true })
  }

  /** Removes what builders that are gone have left, and then the longest unused templates until all take at most `maxBytes`. */
  async sweep(maxBytes: number, keep: string | undefined): Promise<StoredTemplate[]> {
    await this.#removeLeftovers()
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

  async #removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.#folder).catch(() => [])) {
      const path = join(this.#folder, name)
      if (name.startsWith(REMOVING)) await rm(path, { recursive: true, force: true })
      if (!name.startsWith(BUILDING)) continue
      const [pid = 0, startTime = 0] = name.slice(BUILDING.length).split('.').map(Number)
      if (!(await isRunning({ pid, startTime }))) await rm(path, { recursive: true, force: true })
    }
  }
}

/** What the files of a folder take on the disk. */
async function allocated(folder: string): Promise<number> {
  const names = await readdir(folder)
  const stats = await Promise.all(names.map((name) => lstat(join(folder, name))))
  return stats.reduce((sum, { blocks }) => sum + blocks * BLOCK_BYTES, 0)
}
