import { extname } from 'node:path'
import type { Context } from 'hono'
import { VivariumError } from '../contracts/errors.ts'
import { isConfinedPath } from '../contracts/paths.ts'
import type { AppEnv, Assets } from './types.ts'

/** The dashboard loads its own files and talks to its own server; `data:` and `blob:` are previews of images in events. */
const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "font-src 'self'",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ')

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.webmanifest': 'application/manifest+json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
}

/** Vite puts eight characters of the content's hash before the extension: such a name never changes its content. */
const HASHED = /-[\w-]{8}\.\w+$/

/** One of the dashboard's files, or for every other path the app itself, which then reads the path. */
export function serveDashboard(assets: Assets) {
  return (c: Context<AppEnv>): Response => {
    const name = c.req.path.slice(1)
    const file = isConfinedPath(name) ? assets.read(`web/${name}`) : undefined
    if (file !== undefined) return send(file, name)
    // A missing script must not be answered with a page: browsers would say that the page is a broken script.
    const app = name.startsWith('assets/') ? undefined : assets.read('web/index.html')
    if (app === undefined) throw new VivariumError('not_found', `There is no ${c.req.path} here.`)
    return send(app, 'index.html')
  }
}

function send(file: Uint8Array, name: string): Response {
  const immutable = name.startsWith('assets/') && HASHED.test(name)
  return new Response(Uint8Array.from(file), {
    headers: {
      'content-type': TYPES[extname(name)] ?? 'application/octet-stream',
      'content-security-policy': CSP,
      'cache-control': immutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    },
  })
}
