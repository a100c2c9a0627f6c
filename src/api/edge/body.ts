import { Readable, Transform } from 'node:stream'
import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { VivariumError } from '../../contracts/errors.ts'
import type { AppEnv } from '../types.ts'

const MIB = 1024 * 1024

/** Wants a JSON body of at most `maxBytes`. A form or a text body is what other sites' pages can send without asking. */
export function jsonBody(maxBytes = MIB): MiddlewareHandler<AppEnv>[] {
  return [
    async (c, next) => {
      const type = mediaType(c)
      if (type !== 'application/json' && !type.endsWith('+json')) {
        throw new VivariumError('unsupported_media_type', 'Send JSON, with "Content-Type: application/json".')
      }
      await next()
    },
    bodyLimit({ maxSize: maxBytes, onError: () => Promise.reject(tooLarge(maxBytes)) }),
  ]
}

/** The body as a stream that fails with `too_large` beyond `maxBytes`. */
export function streamedBody(c: Context<AppEnv>, maxBytes: number): Readable {
  const declared = Number(c.req.header('content-length') ?? 0)
  if (declared > maxBytes) throw tooLarge(maxBytes)
  const { body } = c.req.raw
  if (body === null) return Readable.from([])
  let size = 0
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length
      if (size > maxBytes) done(tooLarge(maxBytes))
      else done(null, chunk)
    },
  })
  const source = Readable.fromWeb(body)
  source.on('error', (error) => counted.destroy(error))
  counted.on('close', () => source.destroy())
  return source.pipe(counted)
}

/** The media type of the request's body, without parameters, in lower case. */
export function mediaType(c: Context<AppEnv>): string {
  return (c.req.header('content-type') ?? '').split(';', 1).join('').trim().toLowerCase()
}

function tooLarge(maxBytes: number): VivariumError {
  return new VivariumError('too_large', `The body is larger than ${Math.floor(maxBytes / MIB)} MiB.`)
}
