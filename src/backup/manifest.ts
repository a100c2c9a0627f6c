import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import { isConfinedPath } from '../contracts/paths.ts'

/** Written last: a backup without it is none. */
export const MANIFEST = 'manifest.json'
/** What the backup holds, one FileEntry a line. */
export const FILE_LIST = 'files.ndjson'
/** The part of a data folder that was backed up, as it lies there. */
export const DATA = 'data'

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/)

export const Manifest = z.object({
  format: z.literal(1),
  /** Of the program that made it. */
  version: z.string(),
  createdAt: z.iso.datetime(),
  files: z.int(),
  bytes: z.int(),
  /** SHA-256 of the list of files. */
  fileList: Sha256,
  /** Whether the key of the secrets is in it, and which suspended machines are. */
  masterKey: z.boolean(),
  machines: z.array(z.string()),
})
export type Manifest = z.infer<typeof Manifest>

/** Paths are relative to `data/`. */
export const FileEntry = z.object({
  path: z.string().refine(isConfinedPath, 'leads out of the backup'),
  bytes: z.int(),
  sha256: Sha256,
})
export type FileEntry = z.infer<typeof FileEntry>

export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/** Reads and checks what a backup says of itself; its files are yet to be compared with it. Rejects with `invalid_request`. */
export async function readManifest(folder: string): Promise<{ manifest: Manifest; files: FileEntry[] }> {
  const text = await readFile(join(folder, MANIFEST), 'utf8').catch((cause: unknown) => {
    const message = `${folder} is no backup, or one that was never finished: it has no ${MANIFEST}.`
    throw new VivariumError('invalid_request', message, { cause })
  })
  try {
    const manifest = Manifest.parse(JSON.parse(text))
    if ((await sha256Of(join(folder, FILE_LIST))) !== manifest.fileList) throw new Error(`${FILE_LIST} was changed`)
    const lines = (await readFile(join(folder, FILE_LIST), 'utf8')).split('\n').filter((line) => line !== '')
    const files = lines.map((line) => FileEntry.parse(JSON.parse(line)))
    if (files.length !== manifest.files) throw new Error(`${FILE_LIST} is not whole`)
    return { manifest, files }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new VivariumError('invalid_request', `The backup ${folder} is damaged: ${why}.`, { cause })
  }
}
