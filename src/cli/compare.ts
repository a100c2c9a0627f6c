import type { VivariumClient } from '../client/types.ts'
import { PatchCounter, type PatchStat } from '../contracts/patch-stat.ts'
import type { Task } from '../contracts/task.ts'
import { formatSeconds, formatUsd, table } from './render.ts'

/** A task with the size of what it changed. */
export type Compared = Task & { changes: PatchStat }

/** The tasks as they stand now, with what each has changed. */
export async function compareTasks(client: VivariumClient, ids: readonly string[]): Promise<Compared[]> {
  return Promise.all(
    ids.map(async (id) => {
      const task = await client.tasks.get(id)
      return { ...task, changes: await changesOf(client, task) }
    }),
  )
}

async function changesOf(client: VivariumClient, task: Task): Promise<PatchStat> {
  if (!task.hasPatch) return { files: task.files.length, added: 0, removed: 0 }
  const counter = new PatchCounter()
  const { body } = await client.tasks.patch(task.id)
  const decoder = new TextDecoder()
  for await (const chunk of body) counter.write(decoder.decode(chunk, { stream: true }))
  return counter.stat
}

/** One task a row, so that a column shows how they differ. */
export function renderComparison(tasks: readonly Compared[]): string {
  const rows = tasks.map((task) => [
    task.id,
    task.status,
    task.startedAt === null || task.finishedAt === null
      ? '–'
      : formatSeconds(Date.parse(task.finishedAt) - Date.parse(task.startedAt)),
    formatUsd(task.costUsd),
    String(task.turns),
    String(task.changes.files),
    `+${task.changes.added} -${task.changes.removed}`,
  ])
  return table([['TASK', 'STATUS', 'TIME', 'COST', 'TURNS', 'FILES', 'LINES'], ...rows])
}
