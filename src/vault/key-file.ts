import { link, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseKey, readIfThere } from './master-key.ts'
import { newKey } from './seal.ts'

/**
 * The master key in the data folder, and beside it the one that is to take its place. A key is on disk before anything is
 * encrypted with it, and the old one stays until nothing is any more: whenever the process is killed, one of the two opens the vault.
 */
export interface KeyFile {
  readonly path: string
  read(): Buffer | undefined
  /** The key staged by a rotation that did not come to its end. */
  readStaged(): Buffer | undefined
  /** Makes the first key. Rejects where there is one. */
  create(): Promise<Buffer>
  /** Makes a key and puts it beside the present one. Rejects where one stands there already. */
  stage(): Promise<Buffer>
  /** The staged key takes the place of the present one. */
  promote(): Promise<void>
  /** Forgets the staged key. */
  discard(): Promise<void>
}

export function createKeyFile(path: string): KeyFile {
  const staged = `${path}.new`
  const read = (file: string) => {
    const content = readIfThere(file)
    return content === undefined ? undefined : parseKey(content, file)
  }
  /** A process killed between the two names of a new key has left one too many. */
  const removeParts = async () => {
    await Promise.all([path, staged].map((file) => rm(partOf(file), { force: true })))
    await flushFolder(path)
  }
  return {
    path,
    read: () => read(path),
    readStaged: () => read(staged),
    create: () => writeKey(path),
    stage: () => writeKey(staged),
    async promote() {
      await rename(staged, path)
      await removeParts()
    },
    async discard() {
      await rm(staged, { force: true })
      await removeParts()
    },
  }
}

/** Content and name are on disk when it resolves; until then there is no file of that name, so never a part of one. */
async function writeKey(path: string): Promise<Buffer> {
  const key = newKey()
  const part = partOf(path)
  await rm(part, { force: true })
  {
    await using file = await open(part, 'wx', 0o600)
    await file.writeFile(`${key.toString('hex')}\n`)
    await file.sync()
  }
  // Unlike a rename this replaces nothing.
  await link(part, path)
  await rm(part)
  await flushFolder(path)
  return key
}

function partOf(path: string): string {
  return `${path}.part`
}

async function flushFolder(path: string): Promise<void> {
  await using folder = await open(dirname(path), 'r')
  await folder.sync()
}
