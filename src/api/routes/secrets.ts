import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { VivariumError } from '../../contracts/errors.ts'
import { AuditQuery, RotateRequest, SecretName, SecretRequest, SecretTarget } from '../../contracts/secret.ts'
import type { Identity } from '../../identity/types.ts'
import { requireOwner } from '../edge/auth.ts'
import { jsonBody } from '../edge/body.ts'
import { answers, empty, newRouter, problems, schemas, takes } from '../router.ts'
import type { ApiServices, AppEnv } from '../types.ts'

const params = z.object({ name: SecretName })

const list = createRoute({
  method: 'get',
  path: '/secrets',
  summary: "List secrets, never their values: one's own and the shared ones, for the owner everybody's",
  responses: { 200: answers(schemas.secretList, 'The secrets'), ...problems },
})

const set = createRoute({
  method: 'put',
  path: '/secrets/{name}',
  summary: 'Store a secret, or give it a new value; no answer ever shows it',
  middleware: jsonBody(),
  request: { params, body: takes(SecretRequest) },
  responses: { 200: answers(schemas.secret, 'The secret, without its value'), ...problems },
})

const remove = createRoute({
  method: 'delete',
  path: '/secrets/{name}',
  summary: 'Remove a secret',
  request: { params, query: SecretTarget },
  responses: { 204: empty, ...problems },
})

const rotate = createRoute({
  method: 'post',
  path: '/secrets/rotate',
  summary: 'Encrypt every secret anew, with "master" under a new master key (owner)',
  middleware: jsonBody(),
  request: { body: takes(RotateRequest) },
  responses: { 200: answers(schemas.rotateResult, 'What was encrypted anew'), ...problems },
})

const audit = createRoute({
  method: 'get',
  path: '/secrets/audit',
  summary: "Uses and changes of secrets, newest first: what concerns oneself, for the owner everybody's",
  request: { query: AuditQuery },
  responses: { 200: answers(schemas.auditList, 'A page of lines'), ...problems },
})

export function secretRoutes({ identity, vault }: ApiServices) {
  const router = newRouter()
  /** Whose things the caller sees: only their own, for the owner everybody's. */
  const seenBy = (c: Context<AppEnv>) => {
    const { id } = c.get('user')
    return identity.isOwner(id) ? undefined : id
  }

  router.openapi(list, async (c) => c.json({ items: await vault.list(seenBy(c)) }, 200))
  router.openapi(set, async (c) => {
    const { value, ...whose } = c.req.valid('json')
    const by = c.get('user').id
    const target = { userId: ownerOf(identity, by, whose), name: c.req.valid('param').name }
    return c.json(await vault.set(target, value, by), 200)
  })
  router.openapi(remove, async (c) => {
    const { shared, userId } = c.req.valid('query')
    const by = c.get('user').id
    const whose = ownerOf(identity, by, { shared: shared === 'true', userId })
    await vault.remove({ userId: whose, name: c.req.valid('param').name }, by)
    return c.body(null, 204)
  })
  router.use('/secrets/rotate', requireOwner(identity))
  router.openapi(rotate, async (c) => c.json(await vault.rotate(c.req.valid('json'), c.get('user').id), 200))
  router.openapi(audit, async (c) => {
    const userId = seenBy(c)
    const query = c.req.valid('query')
    return c.json({ items: await vault.audit(userId === undefined ? query : { ...query, userId }) }, 200)
  })
  return router
}

/** Whose secret the caller means; null is shared. Only the owner may mean others than themselves. */
function ownerOf(
  identity: Identity,
  caller: string,
  { shared = false, userId }: { shared?: boolean | undefined; userId?: string | undefined },
): string | null {
  if (shared && userId !== undefined) {
    throw new VivariumError('invalid_request', 'A shared secret is nobody’s own: leave out "userId".', {
      field: 'userId',
    })
  }
  if ((shared || (userId ?? caller) !== caller) && !identity.isOwner(caller)) {
    throw new VivariumError('forbidden', 'Only the owner stores and removes secrets for others.', {
      field: shared ? 'shared' : 'userId',
    })
  }
  return shared ? null : (userId ?? caller)
}
