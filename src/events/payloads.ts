import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskId } from '../contracts/ids.ts'
import { VivariumError } from '../contracts/errors.ts'

/** A body on disk that has no place yet; disposing it removes it, unless it was placed. */
export interface StagedPayload extends AsyncDisposable {
  readonly path: string
}

/** Bodies too large for a row, kept as `<dir>/<taskId>/<seq>.json`. */
export interface Payloads {
  /** Writes a body durably under a passing name, because its seq is not known yet. */
  stage(body: string): Promise<StagedPayload>
  /** Gives a staged body its place, durably. May be tried again. */
  place(staged: StagedPayload, taskId: string, seq: number): Promise<void>
  read(taskId: string, seq: number): Promise<string>
  remove(taskId: string, seq: number): Promise<void>
  removeAll(taskId: string): Promise<void>
  /** Removes what was placed behind `seq`, by a process that was killed before the events were stored. */
  removeBehind(taskId: string, seq: number): Promise<void>
}

/** Opens the folder and removes what a killed orchestrator had staged but not placed. */
export async function openPayloads(dir: string): Promise<Payloads> {
  const staging = join(dir, 'staging')
  await rm(staging, { recursive: true, force: true })
  await mkdir(staging, { recursive: true, mode: 0o700 })
  let staged = 0
  /** Those that have their place: giving it again, after a failure behind it, must not look for the passing name. */
  const moved = new WeakSet<StagedPayload>()

  const folder = (taskId: string) => {
    if (!TaskId.safeParse(taskId).success) throw new VivariumError('internal', `"${taskId}" is no task id`)
    return join(dir, taskId)
  }
  const file = (taskId: string, seq: number) => join(folder(taskId), `${seq}.json`)

  return {
    async stage(body) {
      staged += 1
      const path = join(staging, `${staged}.json`)
      const file = { path, [Symbol.asyncDispose]: () => rm(path, { force: true }) }
      try {
        await using handle = await open(path, 'wx', 0o600)
        await handle.writeFile(body)
        await handle.sync()
        return file
      } catch (error) {
        await file[Symbol.asyncDispose]()
        throw error
      }
    },
    async place(payload, taskId, seq) {
      const created = await mkdir(folder(taskId), { recursive: true, mode: 0o700 })
      if (!moved.has(payload)) await rename(payload.path, file(taskId, seq))
      moved.add(payload)
      await syncFolder(folder(taskId))
      if (created !== undefined) await syncFolder(dir)
    },
    read: (taskId, seq) => readFile(file(taskId, seq), 'utf8'),
    remove: (taskId, seq) => rm(file(taskId, seq), { force: true }),
    removeAll: (taskId) => rm(folder(taskId), { recursive: true, force: true }),
    async removeBehind(taskId, seq) {
      const names = await readdir(folder(taskId)).catch(() => []) // most tasks have none
      for (const name of names)
        if (Number.parseInt(name, 10) > seq) await rm(join(folder(taskId), name), { force: true })
    },
  }
}

/** A file's name is durable only when its folder is. */
async function syncFolder(path: string): Promise<void> {
  await using handle = await open(path, 'r')
  await handle.sync()
}
