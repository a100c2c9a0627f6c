import type { MiddlewareHandler } from 'hono'
import type { AppEnv, Shutdown } from '../types.ts'

/** Changes that only take something back, and so are welcome to the last. */
const ENDS_WORK = /\/(?:cancel|suspend)$/

/** While the server stops, what is there can still be read, stopped and removed; whatever would begin something is refused. */
export function refuseNewWork({ draining }: Shutdown): MiddlewareHandler<AppEnv> {
  return async (c, next) => {
    if (draining.aborted && beginsWork(c.req.method, c.req.path)) throw draining.reason
    await next()
  }
}

function beginsWork(method: string, path: string): boolean {
  if (method === 'POST' || method === 'PUT') return !ENDS_WORK.test(path)
  return path.endsWith('/shell')
}
