import type { Migration } from 'kysely/migration'
import * as initial from './0001-initial.ts'
import * as snapshots from './0002-snapshots.ts'
import * as vault from './0003-vault.ts'
import * as metering from './0004-metering.ts'
import * as queue from './0005-queue.ts'
import * as modelRequests from './0006-model-requests.ts'
import * as runs from './0007-runs.ts'
import * as retention from './0008-retention.ts'
import * as collected from './0009-collected.ts'
import * as cancelled from './0010-cancelled.ts'

/** In order. Forward only: a released migration never changes. Imported, not read from a folder, so that the executable has them. */
export const MIGRATIONS: Record<string, Migration> = {
  '0001-initial': initial,
  '0002-snapshots': snapshots,
  '0003-vault': vault,
  '0004-metering': metering,
  '0005-queue': queue,
  '0006-model-requests': modelRequests,
  '0007-runs': runs,
  '0008-retention': retention,
  '0009-collected': collected,
  '0010-cancelled': cancelled,
}
