import { startOrchestrator } from './orchestrator.ts'

/** Vitest global set-up: the template that most tests start from is built before the first, so that each of them is alike. */
export default async function setup(): Promise<void> {
  await using orchestrator = await startOrchestrator({ script: { conversations: [] } })
  await orchestrator.client.templates.build()
}
