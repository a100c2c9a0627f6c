import type { Config } from '../config/schema.ts'
import type { Database } from '../store/database.ts'
import type { Storage } from '../store/types.ts'
import type { Logger } from '../telemetry/types.ts'
import { isOwnAddress } from './addresses.ts'
import type { Destination } from './authority.ts'
import { Budgets, NO_BUDGETS } from './budgets.ts'
import type { CredentialSource } from './credentials.ts'
import { limitLookups, systemResolve, type Resolve } from './dial.ts'
import { Holds } from './holds.ts'
import { Journal } from './journal.ts'
import { Ledger } from './ledger.ts'
import { levelsOf, type NetworkSettings } from './levels.ts'
import { ModelUpstream } from './model.ts'
import { Policy } from './policy.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { PriceTable } from './price-table.ts'
import { Session } from './session.ts'
import { settleOnce } from './settlement.ts'
import { Spending } from './spending.ts'
import type { EgressContext, EgressSession, Gateway } from './types.ts'
import { Upstreams, type UpstreamSet } from './upstreams/serve.ts'
import { recordsOf } from './usage-records.ts'
import { Way } from './way.ts'

export interface GatewayOptions {
  config: Pick<Config, 'anthropic'> & { network: NetworkSettings } & Partial<
      Pick<Config, 'budgets' | 'prices' | 'limits'>
    >
  database: Database
  storage: Storage
  credentials: CredentialSource
  /** Package registries this host is configured for: what the preset `packages` opens. */
  registries: readonly Destination[]
  /** Servers with a credential of ours. */
  upstreams?: UpstreamSet
  /** By which the settings know a user. */
  userName?: (userId: string) => string | undefined
  /**
   * Whether a user's own rules may open private addresses, such as services on this host: true for those who could reach
   * them without us.
   */
  isTrusted: (userId: string) => boolean
  log: Logger
  resolve?: Resolve
  /** The time that budgets and holds go by. */
  now?: () => Date
}

/** The guests' only way out of their machines. */
export function createGateway(options: GatewayOptions): Gateway {
  const { config, credentials, database, storage, now = () => new Date() } = options
  const prices = new PriceTable(config.prices)
  const budgets = new Budgets(config.budgets ?? NO_BUDGETS, new Spending(database), now)
  const holds = new Holds(now)
  const journal = new Journal(database, storage)
  const settle = settleOnce(database, storage, options.log)

  function open(context: EgressContext): EgressSession {
    const { machineId, taskId, userId } = context
    const log = options.log.child({ machineId, taskId })
    const levels = levelsOf({
      settings: config.network,
      upstreams: options.upstreams?.named ?? [],
      userName: options.userName?.(userId),
      task: context.policy,
      needsModel: context.needsModel === true,
      taskIsTrusted: options.isTrusted(userId),
    })
    const policy = new Policy({ levels, packages: options.registries, isOwnAddress })
    const ledger = new Ledger(context, { database, journal, settle, budgets, log, now })
    const model = new ModelUpstream({
      url: config.anthropic.upstream,
      credential: {
        kind: () => credentials.kind(userId),
        use: () => credentials.use(userId, { machineId, taskId }),
      },
      prices,
      ledger,
      holds,
      context,
      now,
    })
    const way = new Way(policy, limitLookups(options.resolve ?? systemResolve), context.onEgress)
    const upstreams = options.upstreams && new Upstreams(options.upstreams, { userId, machineId, taskId }, way)
    return new Session({ model, upstreams, way, ledger, limits: config.limits ?? DEFAULT_LIMITS, log })
  }

  return {
    settle,
    recordsOf: (taskId) => recordsOf(database, taskId),
    open,
    credentialKind: (userId) => credentials.kind(userId),
  }
}
