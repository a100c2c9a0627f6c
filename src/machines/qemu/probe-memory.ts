import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { release } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { passingName } from '../../files/owner.ts'

/** A failure may have been bad luck, e.g. a host under load: it is tried again after this time. */
const FAILURE_HOURS = 24

const Remembered = z.object({ works: z.boolean(), reason: z.string().nullable(), at: z.iso.datetime() })

/** What a boot probe found. */
export interface ProbeOutcome {
  works: boolean
  reason: string | null
}

/** Everything that a probe's outcome depends on. */
export interface ProbeSubject {
  accel: string
  qemuVersion: string
  /** Path of the guest's kernel. */
  kernel: string
}

/** Outcomes of boot probes, one small file each, so that a guest is booted once per host kernel, QEMU and guest kernel. */
export class ProbeMemory {
  readonly #folder: string

  constructor(cacheDir: string) {
    this.#folder = join(cacheDir, 'probes')
  }

  async recall(subject: ProbeSubject, now = new Date()): Promise<ProbeOutcome | undefined> {
    const text = await readFile(await this.#path(subject), 'utf8').catch(() => undefined) // never probed
    const remembered = text === undefined ? undefined : Remembered.safeParse(parseJson(text)).data
    if (remembered === undefined) return undefined
    const ageHours = (now.getTime() - Date.parse(remembered.at)) / 3_600_000
    if (!remembered.works && ageHours > FAILURE_HOURS) return undefined
    return { works: remembered.works, reason: remembered.reason }
  }

  async remember(subject: ProbeSubject, outcome: ProbeOutcome, now = new Date()): Promise<void> {
    const path = await this.#path(subject)
    await mkdir(this.#folder, { recursive: true })
    const fresh = await passingName(path)
    await writeFile(fresh, JSON.stringify({ ...outcome, at: now.toISOString() }))
    await rename(fresh, path)
  }

  async #path(subject: ProbeSubject): Promise<string> {
    const hash = createHash('sha256')
      .update(await readFile(subject.kernel))
      .update(JSON.stringify([release(), subject.qemuVersion, subject.accel]))
    return join(this.#folder, `qemu-${subject.accel}-${hash.digest('hex').slice(0, 16)}.json`)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined // cut off or edited: refused by the schema
  }
}
