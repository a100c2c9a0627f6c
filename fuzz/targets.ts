import type { Target } from './target.ts'
import { answers } from './targets/answers.ts'
import { collection } from './targets/collect.ts'
import { egress } from './targets/egress.ts'
import { frames } from './targets/frames.ts'
import { lines } from './targets/lines.ts'
import { preamble } from './targets/preamble.ts'
import { session } from './targets/session.ts'
import { tar } from './targets/tar.ts'

export const TARGETS: readonly Target[] = [preamble, session, frames, answers, lines, tar, collection, egress]

export function targetNamed(name: string): Target {
  const target = TARGETS.find((target) => target.name === name)
  if (target === undefined)
    throw new Error(`There is no target "${name}"; there are: ${TARGETS.map(({ name }) => name).join(', ')}.`)
  return target
}
