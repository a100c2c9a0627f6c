import { median } from './report.ts'

/** Steps of a start, in order, in ms. */
export type PhaseTimes = { name: string; ms: number }[]

/** The median of each step over several starts; a step that one of them had not counts as nothing there. */
export function medianPhases(starts: PhaseTimes[]): PhaseTimes {
  const names = [...new Set(starts.flatMap((phases) => phases.map(({ name }) => name)))]
  const of = (phases: PhaseTimes, name: string) => phases.find((phase) => phase.name === name)?.ms ?? 0
  return names.map((name) => ({ name, ms: median(starts.map((phases) => of(phases, name))) }))
}
