/** For tests: a gateway before a scripted API, and machines on it with everything they report. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { openDatabase, type Database } from '../store/database.ts'
import { SOUND_STORAGE } from '../store/testing/sound-storage.ts'
import type { Storage } from '../store/types.ts'
import { createLogger } from '../telemetry/logger.ts'
import { vaultCredentials } from './credentials.ts'
import { createGateway, type GatewayOptions } from './gateway.ts'
import { connectGuest, type TestGuest } from './test-guest.ts'
import { testSecrets } from './test-secrets.ts'
import type { EgressContext, EgressSession, Gateway, ModelUsage } from './types.ts'

export interface TestMachine {
  session: EgressSession
  usages: ModelUsage[]
  errors: { status: number; type: string; message: string }[]
  holds: ({ until: Date; message: string } | null)[]
  notices: string[]
  guest(): Promise<TestGuest>
}

export interface TestGateway extends AsyncDisposable {
  database: Database
  /** A machine; those of one user share a credential. */
  machine(context?: Partial<EgressContext>): TestMachine
  gateway: Gateway
  /** Another gateway on the same store, as after a restart. */
  restart(): TestGateway
}

type Settings = Partial<GatewayOptions['config']> & {
  apiKey?: string
  now?: () => Date
  storage?: Storage
  databasePath?: string
}

/** Opens a gateway whose model requests go to `url`. Its store is in memory unless it is given a path. */
export async function openTestGateway(
  url: string,
  { databasePath = ':memory:', ...settings }: Settings = {},
): Promise<TestGateway> {
  const database = await openDatabase(databasePath)
  const gateway = gatewayOn(database, url, settings)
  return {
    ...gateway,
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      await database.destroy()
    },
  }
}

function gatewayOn(
  database: Database,
  url: string,
  { apiKey = 'sk-test', now, storage = SOUND_STORAGE, ...config }: Settings,
): TestGateway {
  const stack = new AsyncDisposableStack()
  const gateway = createGateway({
    config: { anthropic: { upstream: url }, network: { allow: [] }, ...config },
    database,
    storage,
    credentials: vaultCredentials(testSecrets({ 'anthropic-api-key': apiKey })),
    registries: [],
    isTrusted: () => false,
    log: createLogger('error'),
    ...(now && { now }),
  })
  let machines = 0

  function machine(context: Partial<EgressContext> = {}): TestMachine {
    machines += 1
    const reports = { usages: [], errors: [], holds: [], notices: [] } as Omit<TestMachine, 'session' | 'guest'>
    const session = gateway.open({
      machineId: `vm_${machines}`,
      userId: 'u_1',
      taskId: `t_${machines}`,
      policy: undefined,
      maxCostUsd: undefined,
      onUsage: (usage) => reports.usages.push(usage),
      onModelError: (error) => reports.errors.push(error),
      onHeld: (hold) => reports.holds.push(hold),
      onNotice: (message) => reports.notices.push(message),
      ...context,
    })
    stack.defer(() => session.close())
    return { session, ...reports, guest: async () => stack.use(await connectGuest(session)) }
  }

  return {
    database,
    gateway,
    machine,
    restart: () => stack.use(gatewayOn(database, url, { apiKey, storage, ...(now && { now }), ...config })),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

/** An API whose answers the test writes itself, each once the whole request has come. */
export async function startHeldUpstream() {
  const asked: ServerResponse[] = []
  /** Requests of which something has come. */
  const begun: IncomingMessage[] = []
  const upstream = await startUpstream(async (request, response) => {
    begun.push(request)
    try {
      await text(request)
      asked.push(response)
    } catch {
      // Broken off.
    }
  })
  return { ...upstream, asked, begun }
}

/** An API of the test's own. */
export async function startUpstream(listener: RequestListener): Promise<AsyncDisposable & { url: string }> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
