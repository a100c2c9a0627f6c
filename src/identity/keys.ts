import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { ApiKey, NewApiKey } from '../contracts/user.ts'
import type { Database } from '../store/database.ts'
import { hashApiKey, keyPrefix, newApiKey } from './api-key.ts'

const KEY_COLUMNS = ['id', 'userId', 'label', 'prefix', 'createdAt', 'lastUsedAt'] as const

/** A use is noted this many ms after the last noted one at the earliest: requests should not cost a write each. */
const TOUCH_INTERVAL_MS = 60_000

/** The API keys of all users. */
export interface Keys {
  create(userId: string, label: string): Promise<NewApiKey>
  list(userId?: string): Promise<ApiKey[]>
  remove(id: string): Promise<void>
  /** Notes that a key was used; never rejects. */
  touch(id: string, lastUsedAt: string | null): Promise<void>
}

export function createKeys(database: Database): Keys {
  /** When the use of a key was noted last, in ms: many requests come at once, and read the row before the first has written it. */
  const noted = new Map<string, number>()

  return {
    create: (userId, label) =>
      database.transaction().execute(async (trx) => {
        const user = await trx.selectFrom('users').where('id', '=', userId).select('id').executeTakeFirst()
        if (user === undefined) {
          throw new VivariumError('not_found', `There is no user ${userId}.`, { field: 'userId' })
        }
        return insertKey(trx, userId, label)
      }),

    list(userId) {
      const all = database.selectFrom('apiKeys').select(KEY_COLUMNS).orderBy('createdAt').orderBy('id')
      return (userId === undefined ? all : all.where('userId', '=', userId)).execute()
    },

    async remove(id) {
      const result = await database.deleteFrom('apiKeys').where('id', '=', id).executeTakeFirst()
      noted.delete(id)
      if (result.numDeletedRows === 1n) return
      throw new VivariumError('not_found', `There is no API key ${id}.`, { field: 'id' })
    },

    async touch(id, lastUsedAt) {
      const now = Date.now()
      const before = noted.get(id) ?? (lastUsedAt === null ? -Infinity : Date.parse(lastUsedAt))
      if (Math.abs(now - before) < TOUCH_INTERVAL_MS) return
      noted.set(id, now)
      const used = { lastUsedAt: new Date(now).toISOString() }
      try {
        await database.updateTable('apiKeys').set(used).where('id', '=', id).execute()
      } catch {
        // On a full disk people must still get in, to make room; the note is made at a later use.
      }
    },
  }
}

/** Makes a key of a user that exists. The key itself is only ever in the answer. */
export async function insertKey(database: Database, userId: string, label: string): Promise<NewApiKey> {
  const key = newApiKey()
  const shown: ApiKey = {
    id: newId('k'),
    userId,
    label,
    prefix: keyPrefix(key),
    createdAt: new Date().toISOString(),
    lastUsedAt: null,
  }
  await database
    .insertInto('apiKeys')
    .values({ ...shown, hash: hashApiKey(key) })
    .execute()
  return { ...shown, key }
}
