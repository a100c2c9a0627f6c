import type { Migration } from 'kysely/migration'
import * as initial from './0001-initial.ts'
import * as snapshots from './0002-snapshots.ts'

/** In order. Forward only: a released migration never changes. Imported, not read from a folder, so that the executable has them. */
export const MIGRATIONS: Record<string, Migration> = {
  '0001-initial': initial,
  '0002-snapshots': snapshots,
}
