import { existsSync } from 'node:fs'
import { chmod } from 'node:fs/promises'
import { backup, DatabaseSync } from 'node:sqlite'
import { VivariumError } from '../contracts/errors.ts'
import { checkStructure } from '../store/check.ts'

/** More than any database has: all in one step, so that a writer can't make it begin again and again. */
const ALL_PAGES = 2 ** 31 - 1

/** How long to wait for a writer. */
const BUSY_MS = 10_000

/** Copies a database as it is at one moment, while others write to it. The copy is one file, without a log of its own. */
export async function snapshotDatabase(from: string, to: string): Promise<void> {
  if (!existsSync(from)) throw new VivariumError('not_found', `There is no database ${from} to back up.`)
  using source = open(from)
  await backup(source, to, { rate: ALL_PAGES })
  await chmod(to, 0o600)
  using copy = open(to)
  copy.exec('PRAGMA journal_mode = DELETE')
}

/** Rejects with `invalid_request` where a file is no database, or a damaged one. */
export async function checkSnapshot(path: string): Promise<void> {
  try {
    using database = open(path)
    checkStructure(database)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new VivariumError('invalid_request', `The backup's database can't be used: ${why}.`, { cause })
  }
}

/**
 * Makes a snapshot agree with files that were copied after it: what `live` has removed since is removed from it as well.
 * Rows are marked before their bytes go, so that this finds whatever the copying could have missed. Machines go, but for those named.
 */
export function settleSnapshot(path: string, live: string, machines: readonly string[]): void {
  using database = open(path)
  database.prepare('ATTACH DATABASE ? AS live').run(live)
  database.exec('BEGIN')
  for (const table of ['events', 'result_files'])
    database.exec(
      `DELETE FROM main.${table} WHERE task_id IN (SELECT id FROM main.tasks WHERE id NOT IN (SELECT id FROM live.tasks))`,
    )
  database.exec('DELETE FROM main.tasks WHERE id NOT IN (SELECT id FROM live.tasks)')
  const changed = '(SELECT m.id FROM main.tasks m JOIN live.tasks l USING (id) WHERE m.removed_json <> l.removed_json)'
  for (const [part, table] of [
    ['events', 'events'],
    ['files', 'result_files'],
  ] as const)
    database.exec(
      `DELETE FROM main.${table} WHERE task_id IN ${changed} AND task_id IN (SELECT id FROM live.tasks WHERE removed_json LIKE '%"${part}":%')`,
    )
  const columns = ['patch_bytes', 'has_state', 'files_bytes', 'events_bytes', 'state_bytes', 'removed_json']
  const taken = columns.map((column) => `${column} = (SELECT l.${column} FROM live.tasks l WHERE l.id = tasks.id)`)
  database.exec(`UPDATE main.tasks SET ${taken.join(', ')} WHERE id IN ${changed}`)
  database
    .prepare('DELETE FROM main.machines WHERE id NOT IN (SELECT value FROM json_each(?))')
    .run(JSON.stringify(machines))
  database.exec('COMMIT')
}

function open(path: string): DatabaseSync {
  return new DatabaseSync(path, { timeout: BUSY_MS })
}
