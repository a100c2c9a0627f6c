import { VivariumError } from '../contracts/errors.ts'
import type { EngineName } from '../contracts/machine.ts'
import type { Engine, EngineProbe } from './types.ts'

/**
 * The engine to use: with `auto` the first of `engines` (best first) that works here, otherwise the named one and no other.
 * Rejects with `setup_required`, saying why each one tried does not work and what would mend it.
 */
export async function chooseEngine(
  setting: 'auto' | EngineName,
  engines: readonly Engine[],
  signal?: AbortSignal,
): Promise<Engine> {
  const candidates = engines.filter(({ name }) => setting === 'auto' || setting === name)
  if (candidates.length === 0)
    throw new VivariumError('setup_required', `The engine ${setting} is not supported yet; set engine to auto.`)
  const failures: EngineProbe[] = []
  for (const engine of candidates) {
    const probe = await engine.probe(signal)
    if (probe.works) return engine
    failures.push(probe)
  }
  throw new VivariumError(
    'setup_required',
    `No machine can be started here. ${failures.map(describeFailure).join(' ')}`,
  )
}

function describeFailure({ engine, reason, fix }: EngineProbe): string {
  const why = `${engine}: ${(reason ?? 'it does not work here').replace(/\.?$/, '.')}`
  return fix === null ? why : `${why} To mend it: ${fix}.`
}
