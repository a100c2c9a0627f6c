import type { Context, MiddlewareHandler } from 'hono'
import { deleteCookie, getCookie, setCookie } from 'hono/cookie'
import { VivariumError } from '../../contracts/errors.ts'
import type { Identity } from '../../identity/types.ts'
import type { AppEnv } from '../types.ts'

const COOKIE = 'vivarium_key'
const COOKIE_DAYS = 30

/** Longer than any key; what is longer is not even hashed. */
const MAX_KEY_CHARS = 200

/** Lets in only who shows a valid key, as a bearer token or in the dashboard's cookie. */
export function requireUser(identity: Identity): MiddlewareHandler<AppEnv> {
  return authenticated(identity, (c) => bearer(c) ?? getCookie(c, COOKIE))
}

/** The same for programs only: no cookie. */
export function requireBearer(identity: Identity): MiddlewareHandler<AppEnv> {
  return authenticated(identity, bearer)
}

function authenticated(
  identity: Identity,
  keyOf: (c: Context<AppEnv>) => string | undefined,
): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    const key = keyOf(c)
    if (key === undefined) {
      throw new VivariumError('unauthenticated', 'Send an API key: "Authorization: Bearer vv_…".')
    }
    c.set('user', await userOf(identity, key))
    c.set('apiKey', key)
    await next()
  }
}

/** The user of a key; rejects with `unauthenticated`. */
export async function userOf(identity: Identity, key: string) {
  const user = key.length <= MAX_KEY_CHARS ? await identity.authenticate(key) : undefined
  if (user === undefined) throw new VivariumError('unauthenticated', 'This API key is not valid (any more).')
  return user
}

function bearer(c: Context<AppEnv>): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(c.req.header('authorization') ?? '')?.[1]
}

/** Gives the browser its key in a form that scripts can't read and other sites can't use. */
export function setSessionCookie(c: Context<AppEnv>, key: string): void {
  const origin = c.req.header('origin') ?? c.req.url
  setCookie(c, COOKIE, key, {
    httpOnly: true,
    sameSite: 'Strict',
    path: '/',
    maxAge: COOKIE_DAYS * 24 * 3600,
    secure: origin.startsWith('https://'),
  })
}

export function clearSessionCookie(c: Context<AppEnv>): void {
  deleteCookie(c, COOKIE, { path: '/' })
}

/** Refuses everybody but the owner. */
export function requireOwner(identity: Identity): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    if (!identity.isOwner(c.get('user').id)) throw new VivariumError('forbidden', 'Only the owner may do this.')
    await next()
  }
}
