import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { User } from '../contracts/user.ts'
import type { Database } from '../store/database.ts'
import { storing } from '../store/failures.ts'
import { hashApiKey, isApiKey } from './api-key.ts'
import { createKeys, insertKey } from './keys.ts'
import type { Identity } from './types.ts'

const OWNER_NAME = 'owner'
const USER_COLUMNS = ['id', 'name', 'createdAt'] as const

/**
 * Users and their API keys in the database. `isOwner` and `nameOf` answer from memory: call `ensureOwner` first.
 * All calls reject with `storage_failed` when the database does.
 */
export function createIdentity(database: Database): Identity {
  const keys = createKeys(database)
  let ownerId: string | undefined
  const names = new Map<string, string>()

  const authenticate = async (key: string): Promise<User | undefined> => {
    if (!isApiKey(key)) return undefined
    const found = await database
      .selectFrom('apiKeys')
      .innerJoin('users', 'users.id', 'apiKeys.userId')
      .where('apiKeys.hash', '=', hashApiKey(key))
      .select(['users.id', 'users.name', 'users.createdAt', 'apiKeys.id as keyId', 'apiKeys.lastUsedAt'])
      .executeTakeFirst()
    if (found === undefined) return undefined
    await keys.touch(found.keyId, found.lastUsedAt)
    return { id: found.id, name: found.name, createdAt: found.createdAt }
  }

  /** One transaction, which holds the write lock from its start: of several processes starting at once one makes the owner. */
  const ensureOwner = () =>
    database.transaction().execute(async (trx) => {
      const present = await trx.selectFrom('users').where('isOwner', '=', 1).select(USER_COLUMNS).executeTakeFirst()
      if (present !== undefined) return { user: present }
      const user = newUser(OWNER_NAME)
      await trx
        .insertInto('users')
        .values({ ...user, isOwner: 1 })
        .execute()
      const { key } = await insertKey(trx, user.id, 'first key')
      return { user, key }
    })

  const createUser = async (name: string): Promise<User> => {
    const user = newUser(name)
    const result = await database
      .insertInto('users')
      .values({ ...user, isOwner: 0 })
      .onConflict((conflict) => conflict.column('name').doNothing())
      .executeTakeFirst()
    if (result.numInsertedOrUpdatedRows === 1n) {
      names.set(user.id, user.name)
      return user
    }
    throw new VivariumError('conflict', `There is already a user "${name}".`, { field: 'name' })
  }

  const removeUser = async (id: string): Promise<void> => {
    // The user's keys go with it: the table says `on delete cascade`.
    const result = await database.deleteFrom('users').where('id', '=', id).where('isOwner', '=', 0).executeTakeFirst()
    if (result.numDeletedRows === 1n) return void names.delete(id)
    const owner = await database.selectFrom('users').where('id', '=', id).select('id').executeTakeFirst()
    if (owner === undefined) throw new VivariumError('not_found', `There is no user ${id}.`, { field: 'id' })
    throw new VivariumError('forbidden', 'The owner of this server cannot be removed.', { field: 'id' })
  }

  return {
    async ensureOwner() {
      const made = await storing("The owner can't be made", ensureOwner)
      ownerId = made.user.id
      const users = await storing("Users can't be read", () =>
        database.selectFrom('users').select(USER_COLUMNS).execute(),
      )
      for (const { id, name } of users) names.set(id, name)
      return made
    },
    authenticate: (key) => storing("The API key can't be checked", () => authenticate(key)),
    createUser: (name) => storing(`The user "${name}" can't be made`, () => createUser(name)),
    listUsers: () =>
      storing("Users can't be read", () =>
        database.selectFrom('users').select(USER_COLUMNS).orderBy('createdAt').orderBy('id').execute(),
      ),
    removeUser: (id) => storing(`The user ${id} can't be removed`, () => removeUser(id)),
    createKey: (userId, label) => storing("An API key can't be made", () => keys.create(userId, label)),
    listKeys: (userId) => storing("API keys can't be read", () => keys.list(userId)),
    removeKey: (id) => storing(`The API key ${id} can't be removed`, () => keys.remove(id)),
    isOwner: (userId) => ownerId !== undefined && userId === ownerId,
    nameOf: (userId) => names.get(userId),
  }
}

function newUser(name: string): User {
  return { id: newId('u'), name, createdAt: new Date().toISOString() }
}
