import type { IncomingMessage } from 'node:http'
import { z } from 'zod'

/** A failed model request, as the task reports it. */
export interface ModelError {
  status: number
  type: string
  message: string
}

const MAX_BYTES = 64 * 1024

const Body = z.object({ error: z.object({ type: z.string(), message: z.string() }) })

/**
 * The error in an answer, or what can be said where its body can't be read, and as much of the body as an error needs. Rejects when
 * the answer breaks off.
 */
export async function readError(response: IncomingMessage): Promise<{ error: ModelError; body: Buffer }> {
  const status = response.statusCode ?? 502
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= MAX_BYTES) break
  }
  const body = Buffer.concat(chunks)
  return { error: errorIn(body, status), body }
}

function errorIn(body: Buffer, status: number): ModelError {
  try {
    const { error } = Body.parse(JSON.parse(body.toString()))
    return { status, type: error.type.slice(0, 100), message: error.message.slice(0, 1000) }
  } catch {
    // Proxies in between answer with pages of their own.
    return { status, type: 'api_error', message: `The model's API answered ${status}.` }
  }
}
