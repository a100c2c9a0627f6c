import { VivariumError } from '../contracts/errors.ts'

/**
 * Runs `work`; what it throws becomes `storage_failed` with a sentence that begins with `what`, e.g. "Events can't be stored".
 * Errors of ours pass unchanged.
 */
export async function storing<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof VivariumError) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new VivariumError('storage_failed', `${what}: ${why}`, { cause: error })
  }
}
