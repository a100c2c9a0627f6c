import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { lstat, mkdir, open, readdir, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Readable } from 'node:stream'
import { VivariumError } from '../contracts/errors.ts'
import { folderBytes } from '../files/usage.ts'
import { storing } from '../store/failures.ts'
import { crashPoint } from '../telemetry/crash-points.ts'
import { checkKey, hasCode, hasFolders, makeFolders, orUndefined, syncFolder } from './tree.ts'
import type { Blobs } from './types.ts'

/**
 * Blobs as files: `<dir>/objects/<key>`, written in `<dir>/incoming` first. Removes what a killed process left there, so only
 * one process at a time may write. All calls reject with `invalid_request` for an unconfined key and `storage_failed` when
 * the disk fails; `put` with `conflict` when a key is also a folder of other keys.
 */
export async function createDiskBlobs(dir: string): Promise<Blobs> {
  const { objects, incoming } = await storing(`The folder ${dir} can't be used`, () => prepare(dir))

  /** Opens a key's file; undefined where there is none. */
  const openFile = async (key: string): Promise<FileHandle | undefined> => {
    checkKey(key)
    if (!(await hasFolders(objects, key))) return undefined
    const handle = await orUndefined(open(join(objects, key), constants.O_RDONLY | constants.O_NOFOLLOW))
    if (handle === undefined || (await handle.stat()).isFile()) return handle
    await handle.close()
    return undefined
  }

  /** The folder of a prefix; undefined where there is none. */
  const openFolder = async (prefix: string): Promise<string | undefined> => {
    const folder = prefix.slice(0, -1)
    checkKey(folder)
    if (!prefix.endsWith('/')) throw new VivariumError('internal', `The prefix "${prefix}" does not end in "/".`)
    return (await hasFolders(objects, prefix)) ? join(objects, folder) : undefined
  }

  return {
    async put(key, body, options = {}) {
      checkKey(key)
      const temporary = join(incoming, randomUUID())
      await using cleanup = new AsyncDisposableStack()
      cleanup.defer(() => rm(temporary, { force: true }))
      const size = await writeNew(temporary, key, body, options.maxBytes ?? Infinity)
      crashPoint('blob staged')
      await storing(`"${key}" can't be stored`, () => moveTo(objects, key, temporary))
      crashPoint('blob placed')
      return size
    },

    get: (key, range) =>
      storing(`"${key}" can't be read`, async () => {
        const handle = await openFile(key)
        if (handle === undefined || range === undefined) return handle?.createReadStream()
        const { size } = await handle.stat()
        if (range.start <= range.end && range.start < size) return handle.createReadStream(range)
        await handle.close()
        throw new VivariumError(
          'range_not_satisfiable',
          `The file has ${size} bytes; bytes ${range.start} to ${range.end} are not among them.`,
          { field: 'range' },
        )
      }),

    size: (key) =>
      storing(`"${key}" can't be read`, async () => {
        await using handle = await openFile(key)
        return (await handle?.stat())?.size
      }),

    remove: (key) =>
      storing(`"${key}" can't be removed`, async () => {
        checkKey(key)
        if (!(await hasFolders(objects, key))) return
        await rm(join(objects, key), { force: true })
        await syncFolder(dirname(join(objects, key)))
      }),

    usage: (prefix) =>
      storing(`"${prefix}" can't be read`, async () => {
        const folder = await openFolder(prefix)
        return folder === undefined ? 0 : folderBytes(folder)
      }),

    folders: (prefix) =>
      storing(`"${prefix}" can't be read`, async () => {
        const folder = await openFolder(prefix)
        if (folder === undefined) return []
        const inner = (await readdir(folder, { withFileTypes: true })).filter((entry) => entry.isDirectory())
        const dated = async (name: string) => ({
          name,
          modifiedAt: (await stat(join(folder, name))).mtime.toISOString(),
        })
        return Promise.all(inner.map(({ name }) => dated(name)))
      }),

    removeAll: (prefix) =>
      storing(`"${prefix}" can't be removed`, async () => {
        const folder = await openFolder(prefix)
        if (folder === undefined) return
        await rm(folder, { recursive: true, force: true })
        await syncFolder(dirname(folder))
      }),
  }
}

async function prepare(dir: string): Promise<{ objects: string; incoming: string }> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  const root = await realpath(dir)
  const [objects, incoming] = [join(root, 'objects'), join(root, 'incoming')]
  await rm(incoming, { recursive: true, force: true })
  for (const folder of [objects, incoming]) await mkdir(folder, { recursive: true, mode: 0o700 })
  if (!(await lstat(objects)).isDirectory()) throw new Error(`${objects} is not a folder`)
  return { objects, incoming }
}

/** Writes a body durably to a new file; resolves with its size. What the body itself throws passes unchanged. */
async function writeNew(path: string, key: string, body: Readable | Buffer, maxBytes: number): Promise<number> {
  const write = <Result>(work: () => Promise<Result>) => storing(`"${key}" can't be stored`, work)
  let size = 0
  await using handle = await write(() => open(path, 'wx', 0o600))
  // Leaving the loop by an error also destroys the stream.
  for await (const chunk of Buffer.isBuffer(body) ? [body] : body) {
    const bytes: Buffer = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk)
    size += bytes.length
    if (size > maxBytes) throw new VivariumError('too_large', `"${key}" is larger than ${maxBytes} bytes.`)
    await write(() => handle.writeFile(bytes))
  }
  await write(() => handle.sync())
  return size
}

async function moveTo(objects: string, key: string, temporary: string): Promise<void> {
  const path = join(objects, key)
  try {
    await makeFolders(objects, key)
    await rename(temporary, path)
  } catch (error) {
    if (hasCode(error, 'EISDIR', 'ENOTEMPTY', 'EEXIST')) {
      throw new VivariumError('conflict', `"${key}" is a folder of other files.`, { field: 'key', cause: error })
    }
    if (hasCode(error, 'ENAMETOOLONG')) {
      throw new VivariumError('invalid_request', `"${key}" is too long a name.`, { field: 'key', cause: error })
    }
    throw error
  }
  await syncFolder(dirname(path))
}
