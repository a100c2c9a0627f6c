import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'

const Place = z.tuple([z.iso.datetime(), z.string()])

/** Where a page of tasks ended: opaque to clients. */
export function encodeCursor(task: { createdAt: string; id: string }): string {
  return Buffer.from(`${task.createdAt} ${task.id}`).toString('base64url')
}

/** The place that `encodeCursor` wrote down; `invalid_request` for anything else. */
export function decodeCursor(cursor: string): { createdAt: string; id: string } {
  const place = Place.safeParse(Buffer.from(cursor, 'base64url').toString('utf8').split(' '))
  if (!place.success) {
    const message = 'The cursor is not one of ours: use the nextCursor of the page before.'
    throw new VivariumError('invalid_request', message, { field: 'cursor' })
  }
  const [createdAt, id] = place.data
  return { createdAt, id }
}
