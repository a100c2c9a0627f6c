import { expect, test } from 'vitest'
import { openDatabase } from './database.ts'

test('transactions begun at once do not mix', async () => {
  const database = await openDatabase(':memory:')
  const user = (name: string) => ({ id: `u_${name}`, name, isOwner: 0, createdAt: new Date(0).toISOString() })
  const failing = database.transaction().execute(async (trx) => {
    await trx.insertInto('users').values(user('rolled-back')).execute()
    await new Promise((resolve) => setTimeout(resolve, 20))
    throw new Error('roll back')
  })
  const passing = database.transaction().execute(async (trx) => {
    await trx.insertInto('users').values(user('kept')).execute()
  })
  const [failed, passed] = await Promise.allSettled([failing, passing])
  expect([failed.status, passed.status]).toEqual(['rejected', 'fulfilled'])
  expect(await database.selectFrom('users').select('name').execute()).toEqual([{ name: 'kept' }])
  await database.destroy()
})
