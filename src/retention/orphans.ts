import type { Blobs } from '../blobs/types.ts'
import { FINAL_STATUSES } from '../contracts/task.ts'
import type { Database } from '../store/database.ts'
import type { StoredRequest } from '../tasks/task-store.ts'

const IDS_AT_ONCE = 500

/**
 * Removes bytes that no row names: a process was killed between the two. Call it before anything is submitted. What is newer than the newest
 * task stays: a database that was restored from before knows nothing of it, and may not be the last word. Resolves with the number of folders removed.
 */
export async function sweepOrphans(database: Database, blobs: Pick<Blobs, 'folders' | 'removeAll'>): Promise<number> {
  const newest = await database
    .selectFrom('tasks')
    .select(({ fn }) => fn.max('createdAt').as('at'))
    .executeTakeFirst()
  const before = newest?.at ?? ''
  const unfinished = await database
    .selectFrom('tasks')
    .select(['id', 'requestJson'])
    .where('status', 'not in', [...FINAL_STATUSES])
    .execute()
  const uploads = await database.selectFrom('uploads').select('id').execute()
  const taken = unfinished.flatMap(({ requestJson }) => (JSON.parse(requestJson) as StoredRequest).uploadId ?? [])
  const named: Record<string, (ids: string[]) => Promise<Set<string>>> = {
    'results/': (ids) => existing(database, ids),
    'inputs/': async () => new Set(unfinished.map(({ id }) => id)),
    'uploads/': async () => new Set([...uploads.map(({ id }) => id), ...taken]),
  }
  let count = 0
  for (const [prefix, find] of Object.entries(named)) {
    const old = (await blobs.folders(prefix)).filter(({ modifiedAt }) => modifiedAt < before).map(({ name }) => name)
    const known = await find(old)
    for (const name of old.filter((candidate) => !known.has(candidate))) {
      await blobs.removeAll(`${prefix}${name}/`)
      count += 1
    }
  }
  return count
}

async function existing(database: Database, ids: string[]): Promise<Set<string>> {
  const found = new Set<string>()
  for (let start = 0; start < ids.length; start += IDS_AT_ONCE) {
    const some = ids.slice(start, start + IDS_AT_ONCE)
    for (const { id } of await database.selectFrom('tasks').select('id').where('id', 'in', some).execute())
      found.add(id)
  }
  return found
}
