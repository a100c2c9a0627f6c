import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'
import type { Qmp } from './qmp.ts'

/** For what does not depend on size, under heavy load; and for RAM on a slow disk, 8 MiB a second. */
const FIXED_DEADLINE_MS = 30_000
const DEADLINE_MS_PER_MIB = 125

const CANCEL_DEADLINE_MS = 10_000
const CANCEL_POLL_MS = 20

/** Bytes a second: QEMU holds itself back to 128 MiB otherwise. */
const UNLIMITED_BANDWIDTH = 1e12

/** `MigrationStatus` of an attempt that is over (qapi/migration.json). */
const OVER = new Set(['completed', 'failed', 'cancelled'])

const Status = z.object({ status: z.string(), 'error-desc': z.string().optional() })

/** How long it may take to save a machine of that size, or to load it. */
export function migrationDeadlineMs(memoryMib: number): number {
  return FIXED_DEADLINE_MS + memoryMib * DEADLINE_MS_PER_MIB
}

/**
 * Runs a migration, in QEMU's sense: the state of a stopped machine `out` to `uri`, or `in` from there. RAM is left out where it
 * is `mapped`: a file that the other side maps. Resolves when it is complete; rejects with `engine_failed` when QEMU says
 * that it failed, or ends (its way to refuse what comes in), and when `signal` aborts.
 */
export async function migrate(
  qmp: Qmp,
  direction: 'in' | 'out',
  { uri, mapped }: { uri: string; mapped: boolean },
  signal: AbortSignal,
): Promise<void> {
  const capabilities = { events: true, 'x-ignore-shared': mapped }
  await qmp.execute('migrate-set-capabilities', {
    capabilities: Object.entries(capabilities).map(([capability, state]) => ({ capability, state })),
  })
  if (direction === 'out') await qmp.execute('migrate-set-parameters', { 'max-bandwidth': UNLIMITED_BANDWIDTH })
  const finished = new AbortController()
  const outcome = nextOutcome(qmp, AbortSignal.any([signal, finished.signal]))
  try {
    const [status] = await Promise.all([
      outcome,
      qmp.execute(direction === 'out' ? 'migrate' : 'migrate-incoming', { uri }),
    ])
    if (status !== 'completed') {
      const why = (await queryMigration(qmp))?.['error-desc'] ?? status
      throw new VivariumError('engine_failed', `QEMU could not ${direction === 'out' ? 'save' : 'load'} it: ${why}`)
    }
  } finally {
    finished.abort()
  }
}

/** Ends what an unsuccessful `migrate` out has left under way, so that the machine can go on. Never rejects. */
export async function cancelMigration(qmp: Qmp): Promise<void> {
  await qmp.execute('migrate_cancel').catch(() => {}) // QEMU is gone, and its migration with it
  for (
    const deadline = performance.now() + CANCEL_DEADLINE_MS;
    performance.now() < deadline;
    await sleep(CANCEL_POLL_MS)
  ) {
    const status = (await queryMigration(qmp))?.status
    if (status === undefined || status === 'none' || OVER.has(status)) return
  }
}

async function queryMigration(qmp: Qmp): Promise<z.infer<typeof Status> | undefined> {
  return Status.safeParse(await qmp.execute('query-migrate').catch(() => undefined)).data
}

/** QEMU's word for how the next migration ends. Rejects when QEMU goes or `signal` aborts. */
async function nextOutcome(qmp: Qmp, signal: AbortSignal): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const onChange = (data: unknown) => {
    const status = Status.safeParse(data).data?.status
    if (status !== undefined && OVER.has(status)) resolve(status)
  }
  const onClose = () => reject(new VivariumError('engine_failed', 'QEMU ended meanwhile.'))
  const onAbort = () => reject(signal.reason)
  qmp.on('qemu:MIGRATION', onChange).on('close', onClose)
  signal.addEventListener('abort', onAbort)
  try {
    return await promise
  } finally {
    signal.removeEventListener('abort', onAbort)
    qmp.off('qemu:MIGRATION', onChange).off('close', onClose)
  }
}
