import { randomBytes } from 'node:crypto'
import { chmod, constants, open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { answerJson, pathParameter, Refusal, type Request } from '../http.ts'
import { giveToAgent, makeFolder } from './owner.ts'

/** `GET /files?path=`: one regular file, as long as it is when the answer begins. */
export async function getFile({ stream, query }: Request): Promise<void> {
  const path = pathParameter(query)
  // Without blocking: opening a named pipe would wait for its writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const { size } = await checkRegular(path, file)
    stream.respond({ ':status': 200, 'content-type': 'application/octet-stream', 'content-length': size })
    if (size === 0) stream.end()
    else await pipeline(file.createReadStream({ start: 0, end: size - 1, highWaterMark: 256 * 1024 }), stream)
  } finally {
    await file.close()
  }
}

async function checkRegular(path: string, file: { stat(): Promise<{ isFile(): boolean; size: number }> }) {
  const stat = await file.stat()
  if (!stat.isFile()) throw new Refusal(422, `${path} is not a regular file`)
  return stat
}

/** `PUT /files?path=&mode=`: written beside its place, then moved there, so that nobody sees half a file. */
export async function putFile({ stream, query }: Request, switchUsers: boolean): Promise<void> {
  const path = pathParameter(query)
  const mode = Number.parseInt(query.get('mode') ?? '0644', 8)
  if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) throw new Refusal(400, 'mode must be octal')
  await makeFolder(dirname(path), switchUsers)
  const fresh = join(dirname(path), `.vivarium-${randomBytes(6).toString('hex')}`)
  try {
    await writeFile(fresh, stream.iterator({ destroyOnReturn: false }), { flag: 'wx' })
    await chmod(fresh, mode)
    await giveToAgent(fresh, switchUsers)
    await rename(fresh, path)
  } catch (error) {
    await rm(fresh, { force: true })
    throw error
  }
  answerJson(stream, {})
}
