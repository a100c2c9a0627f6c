import { z } from 'zod'

/** One thing looked at. `missing` keeps tasks from running, `warning` does not. */
export const Check = z.object({
  name: z.string(),
  status: z.enum(['ok', 'warning', 'missing']),
  /** What was found, in words. */
  detail: z.string(),
  /** The one command that mends it, or null. */
  fix: z.string().nullable(),
})
export type Check = z.infer<typeof Check>

export const Report = z.object({
  checks: z.array(Check),
  /** The engine that tasks will run on, or null. */
  engine: z.string().nullable(),
  /** Whether tasks can run as things are. */
  ready: z.boolean(),
})
export type Report = z.infer<typeof Report>
