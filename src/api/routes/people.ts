import { createRoute, z } from '@hono/zod-openapi'
import { VivariumError } from '../../contracts/errors.ts'
import { KeyId, UserId } from '../../contracts/ids.ts'
import { SessionRequest } from '../../contracts/server.ts'
import { KeyRequest, type User, UserRequest } from '../../contracts/user.ts'
import { clearSessionCookie, requireOwner, setSessionCookie, userOf } from '../edge/auth.ts'
import { jsonBody } from '../edge/body.ts'
import { answers, empty, newRouter, problems, schemas, takes } from '../router.ts'
import type { ApiServices } from '../types.ts'

const me = createRoute({
  method: 'get',
  path: '/me',
  summary: 'Who is asking',
  responses: { 200: answers(schemas.me, 'The user of the key'), ...problems },
})

const listUsers = createRoute({
  method: 'get',
  path: '/users',
  summary: 'List users (owner)',
  responses: { 200: answers(schemas.userList, 'The users'), ...problems },
})

const createUser = createRoute({
  method: 'post',
  path: '/users',
  summary: 'Make a user (owner)',
  middleware: jsonBody(),
  request: { body: takes(UserRequest) },
  responses: { 201: answers(schemas.user, 'The user'), ...problems },
})

const removeUser = createRoute({
  method: 'delete',
  path: '/users/{id}',
  summary: 'Remove a user and its keys (owner)',
  request: { params: z.object({ id: UserId }) },
  responses: { 204: empty, ...problems },
})

const listKeys = createRoute({
  method: 'get',
  path: '/keys',
  summary: "List API keys: one's own, for the owner everybody's",
  responses: { 200: answers(schemas.keyList, 'The keys'), ...problems },
})

const createKey = createRoute({
  method: 'post',
  path: '/keys',
  summary: 'Make an API key; the answer is the only place where it is shown',
  middleware: jsonBody(),
  request: { body: takes(KeyRequest) },
  responses: { 201: answers(schemas.newKey, 'The key'), ...problems },
})

const removeKey = createRoute({
  method: 'delete',
  path: '/keys/{id}',
  summary: 'Remove an API key',
  request: { params: z.object({ id: KeyId }) },
  responses: { 204: empty, ...problems },
})

const login = createRoute({
  method: 'post',
  path: '/session',
  summary: 'Trade an API key for a cookie that scripts cannot read (for browsers)',
  security: [],
  middleware: jsonBody(),
  request: { body: takes(SessionRequest) },
  responses: { 200: answers(schemas.me, 'The user of the key'), ...problems },
})

const logout = createRoute({
  method: 'delete',
  path: '/session',
  summary: 'Forget the cookie',
  security: [],
  responses: { 204: empty },
})

/** Logging in and out: the one part that asks for no key. */
export function sessionRoutes({ identity }: ApiServices) {
  const router = newRouter()
  router.openapi(login, async (c) => {
    const { key } = c.req.valid('json')
    const user = await userOf(identity, key)
    setSessionCookie(c, key)
    return c.json({ ...user, isOwner: identity.isOwner(user.id) }, 200)
  })
  router.openapi(logout, (c) => {
    clearSessionCookie(c)
    return c.body(null, 204)
  })
  return router
}

export function peopleRoutes({ identity, vault, tasks, machines }: ApiServices) {
  const router = newRouter()

  /** The keys that a user may see: its own, for the owner all. */
  function keysOf(user: User) {
    return identity.listKeys(identity.isOwner(user.id) ? undefined : user.id)
  }

  router.openapi(me, (c) => c.json({ ...c.get('user'), isOwner: identity.isOwner(c.get('user').id) }, 200))

  router.use('/users', requireOwner(identity))
  router.use('/users/*', requireOwner(identity))
  router.openapi(listUsers, async (c) => c.json({ items: await identity.listUsers() }, 200))
  router.openapi(createUser, async (c) => c.json(await identity.createUser(c.req.valid('json').name), 201))
  router.openapi(removeUser, async (c) => {
    const { id } = c.req.valid('param')
    // First the keys, so that nothing new begins; then what would go on spending with nobody to see it.
    await identity.removeUser(id)
    vault.forgetUser(id)
    await tasks.cancelAll(id)
    await Promise.all(
      machines
        .list(id)
        .filter((each) => each.taskId === null)
        .map((each) => machines.destroy(id, each.id)),
    )
    return c.body(null, 204)
  })

  router.openapi(listKeys, async (c) => c.json({ items: await keysOf(c.get('user')) }, 200))
  router.openapi(createKey, async (c) => {
    const user = c.get('user')
    const { label, userId = user.id } = c.req.valid('json')
    if (userId !== user.id && !identity.isOwner(user.id)) {
      throw new VivariumError('forbidden', 'Only the owner makes keys for others.', { field: 'userId' })
    }
    return c.json(await identity.createKey(userId, label), 201)
  })
  router.openapi(removeKey, async (c) => {
    const { id } = c.req.valid('param')
    const visible = await keysOf(c.get('user'))
    if (!visible.some((key) => key.id === id)) throw new VivariumError('not_found', `There is no key ${id}.`)
    await identity.removeKey(id)
    return c.body(null, 204)
  })
  return router
}
