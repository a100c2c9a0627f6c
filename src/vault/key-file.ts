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
  return {
    path,
    read: () => read(path),
    readStaged: () => read(staged),
    create: () => writeKey(path),
    stage: () => writeKey(staged),
    async promote() {
      await rename(staged, path)
      await flushFolder(path)
    },
    async discard() {
      await rm(staged, { force: true })
      await flushFolder(path)
    },
  }
}

/** Content and name are on disk when it resolves; until then there is no file of that name, so never a part of one. */
async function writeKey(path: string): Promise<Buffer> {
  const key = newKey()
  const part = `${path}.part`
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

async function flushFolder(path: string): Promise<void> {
  await using folder = await open(dirname(path), 'r')
  await folder.sync()
}
