import type { Random } from './random.ts'

/** Something that reads what a guest says. */
export interface Target {
  readonly name: string
  /** Makes the input of one case. Everything that happens in the case follows from it, so that it can be kept and played again. */
  generate(random: Random): Buffer
  /** Opens what cases share. */
  open(): Promise<Harness>
}

export interface Harness extends AsyncDisposable {
  /** Plays one case; rejects when something happened that must not. */
  run(input: Buffer): Promise<void>
}

/** A target whose cases share nothing. */
export function simpleTarget(target: Pick<Target, 'name' | 'generate'> & Pick<Harness, 'run'>): Target {
  const { name, generate, run } = target
  return { name, generate, open: async () => ({ run, async [Symbol.asyncDispose]() {} }) }
}

/** The first four bytes of an input decide how the rest of it is cut into pieces. */
export const CUT_BYTES = 4
