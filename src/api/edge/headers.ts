import type { MiddlewareHandler } from 'hono'
import type { AppEnv } from '../types.ts'

/** Said of every answer; a handler that has set one of them knows better. */
const DEFAULTS = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
}

export const defaultHeaders: MiddlewareHandler<AppEnv> = async (c, next) => {
  await next()
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (!c.res.headers.has(name)) c.res.headers.set(name, value)
  }
  // HEAD runs the handler of GET and drops its body, which may be an open file or a reader of the log.
  if (c.req.method === 'HEAD') await c.res.body?.cancel()
}
