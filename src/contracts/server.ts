import { z } from 'zod'
import { TaskId } from './ids.ts'
import { EngineName } from './machine.ts'
import { UsageGrouping, UsageRow } from './usage.ts'
import { ApiKey, User } from './user.ts'

/** The answer of `GET /health`: the process lives. */
export const Health = z.object({ status: z.literal('ok') })
export type Health = z.infer<typeof Health>

/** The answer of `GET /ready`; a server that can't run tasks answers with a problem that says why. */
export const Ready = z.object({ ready: z.literal(true) })
export type Ready = z.infer<typeof Ready>

/** Something of this program's that nobody owns any more. */
export const Leak = z.object({
  kind: z.enum(['machine', 'cgroup', 'folder', 'file']),
  /** Names it: an id or a path. */
  what: z.string(),
  /** How it is known that nobody owns it, in words. */
  why: z.string(),
  /** When it was first seen. */
  since: z.iso.datetime(),
})
export type Leak = z.infer<typeof Leak>

/** The answer of `GET /leaks`. */
export const LeakList = z.object({ items: z.array(Leak) })

/** The answer of `GET /version`: this program and each engine found. */
export const VersionInfo = z.object({
  version: z.string(),
  node: z.string(),
  /** The Claude Code that guests get; null before an image was built. */
  claudeCode: z.string().nullable(),
  engines: z.array(
    z.object({ engine: EngineName, works: z.boolean(), version: z.string().nullable(), reason: z.string().nullable() }),
  ),
})
export type VersionInfo = z.infer<typeof VersionInfo>

/** What `POST /session` takes: a browser trades its key for a cookie that scripts can't read. */
export const SessionRequest = z.strictObject({ key: z.string().min(1).max(200) })

/** Who is asking: the answer of `GET /me` and of `POST /session`. */
export const Me = User.extend({ isOwner: z.boolean() })
export type Me = z.infer<typeof Me>

export const UserList = z.object({ items: z.array(User) })
export const KeyList = z.object({ items: z.array(ApiKey) })

/** Query of `GET /usage`. `since` is a day (YYYY-MM-DD, UTC) or a point in time. */
export const UsageQuery = z.object({
  by: UsageGrouping.default('day'),
  /** A second key, e.g. `model` for every day's models. */
  split: UsageGrouping.optional(),
  /** Of one task only. */
  task: TaskId.optional(),
  since: z
    .union([z.iso.date(), z.iso.datetime({ offset: true })], 'must be a day (YYYY-MM-DD) or a point in time (ISO 8601)')
    .optional(),
  /** Most rows; the costliest are kept, of days the latest. 1,000 by default, for CSV 100,000. */
  limit: z.coerce.number().int().min(1).max(100_000).optional(),
  /** `csv` for a table, as `Accept: text/csv` does. */
  format: z.enum(['json', 'csv']).optional(),
})
export const UsageList = z.object({ items: z.array(UsageRow) })

/** One message of `POST /vms/{id}/exec` over SSE. Output is base64, because it need not be text; `exit` comes last. */
export const ExecEvent = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('stdout'), dataBase64: z.base64() }),
  z.object({ kind: z.literal('stderr'), dataBase64: z.base64() }),
  /** `exitCode` is 128 + signal number when a signal ended the command. */
  z.object({ kind: z.literal('exit'), exitCode: z.int(), signal: z.string().nullable(), timedOut: z.boolean() }),
])
export type ExecEvent = z.infer<typeof ExecEvent>
