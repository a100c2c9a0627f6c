import type { Readable } from 'node:stream'
import type { ContentBlock } from '@modelcontextprotocol/server'
import { z } from 'zod'

/** Claude Code puts text over some 25,000 tokens into a file; code comes to more than two bytes a token. */
export const MAX_TEXT_BYTES = 60_000

/** The largest image that the model's API takes. */
const MAX_IMAGE_BYTES = 5 * 1024 * 1024

/** Image formats that models see, by their first bytes: what a guest calls a file proves nothing. */
const IMAGES: { mimeType: string; matches(head: Buffer): boolean }[] = [
  { mimeType: 'image/png', matches: (head) => head.subarray(0, 8).toString('latin1') === '\x89PNG\r\n\x1a\n' },
  { mimeType: 'image/jpeg', matches: (head) => head.subarray(0, 3).toString('latin1') === '\xff\xd8\xff' },
  { mimeType: 'image/gif', matches: (head) => /^GIF8[79]a/.test(head.toString('latin1', 0, 6)) },
  { mimeType: 'image/webp', matches: (head) => /^RIFF.{4}WEBP/s.test(head.toString('latin1', 0, 12)) },
]

export const FileContent = z.object({
  path: z.string(),
  size: z.int().nullable().describe('Bytes of the whole file, where known'),
  kind: z.enum(['text', 'image', 'binary']),
  mime_type: z.string().nullable(),
  text: z.string().nullable(),
  next_offset: z.int().nullable().describe('Where the text goes on; null at its end'),
  note: z.string().nullable(),
})

export interface FileSource {
  path: string
  /** The byte of the file that is wanted first. */
  offset: number
  /** Bytes of `body` before that one. */
  skip: number
  size: number | undefined
  /** Read as far as needed, then destroyed. */
  body: Readable
}

/** A file as a model can take it: a part of its text, the image, or the reason why neither. */
export async function renderFile(source: FileSource): Promise<{
  structured: z.input<typeof FileContent>
  images: ContentBlock[]
}> {
  const { bytes, ended } = await take(source)
  const base = { path: source.path, size: source.size ?? (ended ? source.offset + bytes.length : null), note: null }
  const image = source.offset === 0 ? IMAGES.find((format) => format.matches(bytes)) : undefined
  if (image !== undefined) {
    const { mimeType } = image
    const structured = { ...base, kind: 'image' as const, mime_type: mimeType, text: null, next_offset: null }
    if (!ended)
      return { structured: { ...structured, note: 'The image is too large to be shown (over 5 MiB).' }, images: [] }
    return { structured, images: [{ type: 'image', mimeType, data: bytes.toString('base64') }] }
  }
  const part = bytes.subarray(0, MAX_TEXT_BYTES)
  const text = decode(part, ended && part.length === bytes.length)
  if (text === undefined) {
    const note =
      'This is no text and no image a model can see. The user can fetch it with "vivarium get" or the dashboard.'
    return { structured: { ...base, kind: 'binary', mime_type: null, text: null, next_offset: null, note }, images: [] }
  }
  const taken = Buffer.byteLength(text)
  const more = !ended || taken < bytes.length
  const next = more ? source.offset + taken : null
  const note = next === null ? null : `There is more: call again with offset ${next}.`
  return { structured: { ...base, kind: 'text', mime_type: 'text/plain', text, next_offset: next, note }, images: [] }
}

/** As much as the largest image takes, if it begins as one; otherwise as much text as is shown. */
async function take({ body, skip, offset }: FileSource): Promise<{ bytes: Buffer; ended: boolean }> {
  const chunks: Buffer[] = []
  let toSkip = skip
  let length = 0
  let limit: number | undefined
  for await (const chunk of body as AsyncIterable<Buffer>) {
    const kept = chunk.subarray(Math.min(toSkip, chunk.length))
    toSkip -= chunk.length - kept.length
    chunks.push(kept)
    length += kept.length
    if (limit === undefined && length >= 12) {
      const head = Buffer.concat(chunks).subarray(0, 12)
      limit = offset === 0 && IMAGES.some((format) => format.matches(head)) ? MAX_IMAGE_BYTES : MAX_TEXT_BYTES
    }
    // Leaving the loop destroys the stream.
    if (limit !== undefined && length > limit) return { bytes: Buffer.concat(chunks), ended: false }
  }
  return { bytes: Buffer.concat(chunks), ended: true }
}

/** UTF-8 text without NUL, or undefined. Where the bytes go on, a character cut at their end is left for the next part. */
function decode(bytes: Buffer, whole: boolean): string | undefined {
  if (bytes.includes(0)) return undefined
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
    return decoder.decode(bytes, { stream: !whole })
  } catch {
    return undefined // not UTF-8
  }
}
