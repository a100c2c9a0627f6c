import { z } from 'zod'
import { VivariumError } from './errors.ts'

/** What retention takes away from a finished task before the task itself. `files` are its results, patch and transcript. */
export const TaskPart = z.enum(['files', 'events', 'state'])
export type TaskPart = z.infer<typeof TaskPart>

/** When a part went, and the setting that decided it. */
const Removal = z.object({ at: z.iso.datetime(), setting: z.string() })

export const RemovedParts = z.object({
  files: Removal.optional(),
  events: Removal.optional(),
  state: Removal.optional(),
})
export type RemovedParts = z.infer<typeof RemovedParts>

const NAMES: Record<TaskPart, string> = {
  files: 'results',
  events: 'events',
  state: 'workspace and conversation',
}

/** Throws `gone` with the sentence why where retention has taken `part` of a task. */
export function requirePart({ id, removed }: { id: string; removed?: RemovedParts | undefined }, part: TaskPart): void {
  const removal = removed?.[part]
  if (removal === undefined) return
  const day = removal.at.slice(0, 10)
  throw new VivariumError(
    'gone',
    `The ${NAMES[part]} of ${id} were removed by retention (${removal.setting}) on ${day}.`,
  )
}
