import type { Blobs } from '../blobs/types.ts'
import { toVivariumError, VivariumError } from '../contracts/errors.ts'
import type { ResultFile } from '../contracts/task.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { GuestLink } from '../link/types.ts'
import { blobKeys } from './blob-keys.ts'
import { HEAD_BYTES, mimeType } from './mime-type.ts'
import { receiveArchive } from './receive-archive.ts'
import { selectFiles } from './result-paths.ts'
import type { TaskSettings } from './settings.ts'

const MIB = 1024 * 1024

/** Files up to this size travel together in archives; larger ones each by itself. */
const SMALL_BYTES = 4 * MIB
const ARCHIVE_BYTES = 64 * MIB
const ARCHIVE_FILES = 1000
/** Small files on their way to the disk at once: it takes several in the time of one. */
const STORED_AT_ONCE = 8

/** Larger transcripts are left in the guest. */
const MAX_TRANSCRIPT_BYTES = 256 * MIB

export interface CollectOptions {
  taskId: string
  link: GuestLink
  blobs: Blobs
  settings: TaskSettings
  transcriptPath: string | undefined
  signal: AbortSignal
}

export interface Collected {
  files: ResultFile[]
  patchBytes: number | null
  /** False when the agent has left no record of a conversation, as one that failed early. */
  hasTranscript: boolean
  /** What could not be brought back, a sentence each. */
  problems: string[]
}

/**
 * Brings changed files, patch and transcript out of a guest, which may lie about all of it. Never rejects: what fails is told in
 * `problems`, and what came before stays.
 */
export async function collect(options: CollectOptions): Promise<Collected> {
  const collected: Collected = { files: [], patchBytes: null, hasTranscript: true, problems: [] }
  const steps: [what: string, run: () => Promise<void>][] = [
    ['files', () => collectFiles(options, collected)],
    ['patch', () => collectPatch(options, collected)],
    ['transcript', () => collectTranscript(options, collected)],
  ]
  for (const [what, run] of steps) {
    try {
      await run()
    } catch (error) {
      collected.problems.push(`The ${what} could not be brought back whole: ${toVivariumError(error).message}`)
    }
  }
  return collected
}

async function collectFiles(options: CollectOptions, collected: Collected): Promise<void> {
  const { link, settings, signal } = options
  // Deleted and excluded entries count here, hence the room above the cap.
  const listing = await link.changes({ maxEntries: settings.maxResultFiles * 4, signal })
  const { files, leftOut } = selectFiles(listing.changes, {
    exclude: settings.exclude,
    maxFiles: settings.maxResultFiles,
  })
  if (listing.skipped > 0)
    leftOut.set('a name that is not UTF-8 or has a backslash, or a path too long to open', listing.skipped)
  for (const [reason, count] of leftOut) {
    collected.problems.push(`${count === 1 ? '1 file was' : `${count} files were`} left out: ${reason}.`)
  }
  if (listing.truncated) collected.problems.push('There were more changes than can be listed; the rest was left out.')

  const store = new FileStore(options, collected)
  for (const batch of batches(files)) await store.receive(batch)
  const missing = files.length - collected.files.length
  if (missing > 0)
    collected.problems.push(`${missing} of ${files.length} files did not come back. ${store.firstProblem}`)
}

interface Listed {
  path: string
  size: number
}

/** Groups of small files that travel as one archive; a large file is a group of its own. */
function* batches(files: Listed[]): Generator<Listed[]> {
  let batch: Listed[] = []
  let bytes = 0
  for (const file of files) {
    if (file.size > SMALL_BYTES) {
      yield [file]
      continue
    }
    if (batch.length >= ARCHIVE_FILES || bytes + file.size > ARCHIVE_BYTES) {
      yield batch
      batch = []
      bytes = 0
    }
    batch.push(file)
    bytes += file.size
  }
  if (batch.length > 0) yield batch
}

/** Puts received files into blobs while there is room. */
class FileStore {
  readonly #options: CollectOptions
  readonly #collected: Collected
  #room: number
  /** Why the first file that did not come back did not. */
  firstProblem = ''

  constructor(options: CollectOptions, collected: Collected) {
    this.#options = options
    this.#collected = collected
    this.#room = options.settings.maxResultBytes
  }

  /** Takes one batch; what of it fails is noted. Rejects only when there is no point in going on. */
  async receive(batch: Listed[]): Promise<void> {
    const { signal } = this.#options
    try {
      const [first] = batch
      if (first !== undefined && first.size > SMALL_BYTES) await this.#receiveOne(first)
      else await this.#receiveArchive(batch)
    } catch (error) {
      this.#note(error)
    }
    signal.throwIfAborted()
  }

  async #receiveOne({ path, size }: Listed): Promise<void> {
    const { link, blobs, taskId, signal } = this.#options
    if (size > this.#room) throw noRoom()
    const { body } = await link.readFile(`${WORKSPACE}/${path}`, { maxBytes: this.#room, signal })
    const key = blobKeys.file(taskId, path)
    const stored = await blobs.put(key, body, { maxBytes: this.#room })
    const head = (await (await blobs.get(key, { start: 0, end: HEAD_BYTES - 1 }))?.toArray()) ?? []
    this.#room -= stored
    this.#took(path, stored, Buffer.concat(head))
  }

  async #receiveArchive(batch: Listed[]): Promise<void> {
    const { link, signal } = this.#options
    const paths = batch.map((file) => file.path)
    const tar = await link.getArchive({ root: WORKSPACE, paths }, signal)
    // Files may have grown since they were listed.
    const limits = { wanted: new Set(paths), maxFileBytes: 2 * SMALL_BYTES, maxBytes: 2 * ARCHIVE_BYTES }
    const underWay = new Set<Promise<void>>()
    try {
      await receiveArchive(tar, limits, async (path, content) => {
        const stored = this.#store(path, content).finally(() => underWay.delete(stored))
        underWay.add(stored)
        if (underWay.size >= STORED_AT_ONCE) await Promise.race(underWay)
      })
    } finally {
      await Promise.all(underWay)
    }
  }

  /** Never rejects: one name that the host's disk refuses must not cost the other files. */
  async #store(path: string, content: Buffer): Promise<void> {
    const { blobs, taskId } = this.#options
    if (content.length > this.#room) return this.#note(noRoom())
    // Before it is stored: others are on their way.
    this.#room -= content.length
    try {
      await blobs.put(blobKeys.file(taskId, path), content)
      this.#took(path, content.length, content.subarray(0, HEAD_BYTES))
    } catch (error) {
      this.#room += content.length
      this.#note(error)
    }
  }

  #took(path: string, size: number, head: Buffer): void {
    this.#collected.files.push({ path, size, mimeType: mimeType(path, head) })
  }

  #note(error: unknown): void {
    if (this.firstProblem === '') this.firstProblem = toVivariumError(error).message
  }
}

function noRoom(): VivariumError {
  return new VivariumError('too_large', 'The results are larger than the limit (results.maxMib).')
}

async function collectPatch({ taskId, link, blobs, settings, signal }: CollectOptions, into: Collected): Promise<void> {
  const maxBytes = settings.maxResultBytes
  const patch = await link.patch({ maxBytes, signal })
  if (patch !== undefined) into.patchBytes = await blobs.put(blobKeys.patch(taskId), patch, { maxBytes })
}

async function collectTranscript(
  { taskId, link, blobs, transcriptPath, signal }: CollectOptions,
  into: Collected,
): Promise<void> {
  if (transcriptPath === undefined) return
  try {
    const maxBytes = MAX_TRANSCRIPT_BYTES
    const { body } = await link.readFile(transcriptPath, { maxBytes, signal })
    await blobs.put(blobKeys.transcript(taskId), body, { maxBytes })
  } catch (error) {
    if (toVivariumError(error).code !== 'not_found') throw error
    into.hasTranscript = false
  }
}
