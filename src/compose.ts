import { totalmem } from 'node:os'
import { join } from 'node:path'
import type { OpenAPIHono } from '@hono/zod-openapi'
import { agents } from './agents/agents.ts'
import { createApp } from './api/app.ts'
import type { ApiServices, AppEnv } from './api/types.ts'
import { assetNames, readAsset } from './assets.ts'
import { keepDailyBackups } from './backup/daily.ts'
import { openOrNameBackup } from './backup/damaged.ts'
import { createDiskBlobs } from './blobs/disk.ts'
import type { Config } from './config/schema.ts'
import type { MachineInfo } from './contracts/machine.ts'
import type { DoctorHost } from './doctor/examine.ts'
import { findVersions } from './doctor/versions.ts'
import { createDeltaCoalescer } from './events/coalesce.ts'
import { openEventLog } from './events/log.ts'
import type { EventLog } from './events/types.ts'
import { diskSpace } from './files/disk-space.ts'
import { vaultCredentials } from './gateway/credentials.ts'
import type { Resolve } from './gateway/dial.ts'
import { createGateway } from './gateway/gateway.ts'
import { folderBytes } from './files/usage.ts'
import type { Gateway } from './gateway/types.ts'
import { upstreamSet } from './gateway/upstreams/set.ts'
import { createUsage } from './gateway/usage.ts'
import { createIdentity } from './identity/identity.ts'
import type { Identity } from './identity/types.ts'
import { hostTools } from './images/host-tools.ts'
import { createImages } from './images/images.ts'
import { createGuestLink } from './link/link.ts'
import { createMachineAccess } from './machines/access.ts'
import { createCapacity } from './machines/capacity.ts'
import { chooseEngine } from './machines/choose-engine.ts'
import { idleProcessors } from './machines/idle-processors.ts'
import { capacityLimits } from './machines/limits.ts'
import { createMachines, type MachinesOptions } from './machines/machines.ts'
import { createQemuEngine } from './machines/qemu/engine.ts'
import type { WarmEgress } from './machines/templates/bake.ts'
import { createReadyPool, type ReadyKind, type WaitingFor } from './machines/ready-pool.ts'
import { NOBODY, type Engine, type MachineAccess, type Machines } from './machines/types.ts'
import { createMcpEndpoint } from './mcp/endpoint.ts'
import { registryDestinations } from './registries/destinations.ts'
import { readHostRegistries } from './registries/host.ts'
import { registryUpstreams } from './registries/upstreams.ts'
import { hostLeaks } from './reaper/host.ts'
import { Reaper } from './reaper/reaper.ts'
import { Shutdown } from './server/shutdown.ts'
import { openDataFolder } from './store/data-folder.ts'
import { openDatabase } from './store/database.ts'
import { taskSettings } from './tasks/settings.ts'
import { createRemoval } from './retention/removal.ts'
import { createRetention } from './retention/retention.ts'
import { sweepOrphans } from './retention/orphans.ts'
import { createTasks } from './tasks/tasks.ts'
import type { Tasks } from './tasks/types.ts'
import { startWaitingAgent } from './tasks/waiting-agent.ts'
import type { Logger } from './telemetry/types.ts'
import { importCredentials } from './vault/import.ts'
import { createKeyFile } from './vault/key-file.ts'
import { openVault } from './vault/vault.ts'
import { VERSION } from './version.ts'

const DATABASE_FILE = 'vivarium.db'

const HEARTBEAT_MS = 15_000

const REAP_MS = 60_000

/** Until Claude Code waits for its prompt, with hardware virtualisation. */
const AGENT_START_MS = 30_000

/** What can be done on a host without a data folder: images, engines, the doctor. */
export interface Host {
  doctor: DoctorHost
}

/** The parts that know the host only. */
export function composeHost(config: Config): Host {
  const images = createImages({ cacheDir: config.cacheDir, extraPackages: config.image.packages })
  const engine = (accel: 'kvm' | 'tcg'): Engine =>
    createQemuEngine({ accel, cacheDir: config.cacheDir, runDir: config.runDir, image: images.find })
  const tools = hostTools().filter((tool) => tool.use !== 'tests')
  return { doctor: { config, images, engines: [engine('kvm'), engine('tcg')], tools } }
}

/** Every service of one orchestrator. Disposing drains it and closes them in reverse order. */
export interface Orchestrator extends AsyncDisposable {
  app: OpenAPIHono<AppEnv>
  identity: Identity
  /** With its key at the very first start only. */
  owner: Awaited<ReturnType<Identity['ensureOwner']>>
  tasks: Tasks
  events: EventLog
  machines: Machines
  access: MachineAccess
  /** Takes up what a previous orchestrator left; call once before serving. */
  recover(): Promise<void>
  /**
   * The first half of stopping: begins nothing new, deals with what runs, and lets readers go once they have the last events. Requests
   * are answered meanwhile, and until it is disposed of.
   */
  drain(): Promise<void>
  /** Whether the database answers. */
  answers: () => Promise<boolean>
  /** Whether a task or a machine would be lost by stopping now. */
  isBusy(): boolean
}

export interface ComposeOptions {
  /** Empties the vault first. */
  forgetSecrets?: boolean
  /** In the place of the system's resolver, in tests of names that lead astray. */
  resolve?: Resolve
  /** In the place of this host's images and engines, in tests without a VM. */
  host?: Host
  /** In the place of what makes the machines room, in tests and measurements of what is above it. */
  createMachines?: () => Machines
}

/** Builds every service, once. The data folder exists and is ours. */
export async function compose(config: Config, log: Logger, options: ComposeOptions = {}): Promise<Orchestrator> {
  await using stack = new AsyncDisposableStack()
  const shutdown = new Shutdown()
  const atShutdown = whatOutlives(config.tasks.atShutdown)
  const { doctor } = options.host ?? composeHost(config)
  const database = await openOrNameBackup(config.home, () => openDatabase(join(config.home, DATABASE_FILE)))
  stack.defer(() => database.destroy())
  const storage = stack.use(
    await openDataFolder({
      home: config.home,
      anchor: DATABASE_FILE,
      minFreeBytes: config.storage.minFreeMib * 1024 ** 2,
      patienceMs: config.storage.patienceSeconds * 1000,
      log,
    }),
  )
  stack.use(keepDailyBackups({ home: config.home, keep: config.backup.keep, log }))
  const identity = createIdentity(database)
  const owner = await identity.ensureOwner()
  const vault = stack.use(
    await openVault({
      database,
      keyFile: createKeyFile(join(config.home, 'master.key')),
      given: config.credentials,
      forgetSecrets: options.forgetSecrets === true,
      log,
    }),
  )
  await importCredentials(vault, owner.user.id, config.credentials, log)
  const events = stack.use(await openEventLog({ database, storage, payloadDir: join(config.home, 'payloads') }))
  const blobs = await createDiskBlobs(join(config.home, 'blobs'))
  const registries = readHostRegistries()
  const gateway = createGateway({
    config,
    database,
    storage,
    credentials: vaultCredentials(vault),
    registries: registryDestinations(registries),
    upstreams: upstreamSet({ settings: config.upstreams, registries: registryUpstreams(registries), secrets: vault }),
    userName: identity.nameOf,
    isTrusted: identity.isOwner,
    log,
    ...(options.resolve && { resolve: options.resolve }),
  })
  const limits = capacityLimits(config.machines, diskSpace(config.home).totalBytes)
  const machines = stack.use(
    (options.createMachines ?? createMachines)({
      database,
      images: doctor.images,
      chooseEngine: () => chooseEngine(config.engine, doctor.engines),
      engines: doctor.engines,
      runDir: config.runDir,
      diskDir: join(config.home, 'machines'),
      scratchMib: config.machines.scratchMib,
      largest: limits.largest,
      exclude: config.results.exclude,
      atShutdown,
      suspendIdleMs: config.machines.suspendIdleSeconds * 1000,
      templates: templateOptions(config, identity),
      warmEgress: (machineId, allow) => warmEgress(gateway, owner.user.id, machineId, allow),
      linkFactory: ({ machineId, timeScale, silent }) =>
        createGuestLink({ name: machineId, timeScale, silent, log: (message) => log.debug({ machineId }, message) }),
      log,
    }),
  )
  const removal = createRemoval({ database, events, blobs })
  const retention = stack.use(
    createRetention({
      database,
      blobs,
      removal,
      machines,
      machineBytes: (id) => folderBytes(join(config.home, 'machines', id)),
      settings: config.retention,
      log,
    }),
  )
  const settings = { ...taskSettings(config), atShutdown }
  const freeDiskBytes = () => diskSpace(config.home).freeBytes
  const capacity = createCapacity({ limits, machines, freeDiskBytes })
  const access = createMachineAccess({ machines, gateway, capacity })
  const pool = stack.use(
    createReadyPool({
      machines,
      kinds: readyKinds(config),
      agent: () => agentToWait(config, gateway, owner.user.id),
      startAgent: ({ link, hasBaseline, timeScale }, waitingFor, signal) => {
        const agent = agents['claude-code']
        const timeoutMs = AGENT_START_MS * timeScale
        const { exclude } = settings
        return startWaitingAgent({ link, hasBaseline, agent, ...waitingFor, exclude, timeoutMs, signal })
      },
      capacity,
      idleMs: config.ready.idleSeconds * 1000,
      freeMemory: () => process.availableMemory() / usableMemory(),
      idleProcessors: idleProcessors(),
      log,
    }),
  )
  const tasks = createTasks({
    database,
    storage,
    removal,
    events,
    blobs,
    machines,
    capacity,
    pool,
    gateway,
    agents,
    settings,
    openWriter: (taskId, onStored) =>
      createDeltaCoalescer({
        append: async (batch, checkpoint) => {
          await events.append(taskId, batch, checkpoint)
          if (checkpoint !== undefined) onStored(checkpoint)
        },
      }),
    log,
  })
  const reaper = stack.use(
    new Reaper({ sources: [() => machines.leaks(), ...hostLeaks(config)], everyMs: REAP_MS, log }),
  )
  const drain = once(async () => {
    shutdown.drain()
    await reaper[Symbol.asyncDispose]()
    await tasks[Symbol.asyncDispose]()
    await events[Symbol.asyncDispose]()
    shutdown.end()
  })
  stack.defer(drain)
  const services: ApiServices = {
    shutdown,
    tasks,
    events,
    machines: access,
    templates: machines.templates,
    identity,
    vault,
    usage: createUsage(database),
    assets: dashboardAssets(),
    mcp: createMcpEndpoint(shutdown.ending),
    version: () => findVersions(doctor),
    leaks: () => reaper.leaks(),
    notReady: async () =>
      (await storage.problem()) ??
      machines.engine().then(
        () => undefined,
        (error: Error) => error.message,
      ),
    gauges: () => [
      { name: 'vivarium_tasks_active', help: 'Tasks that are not final.', value: tasks.activeCount() },
      { name: 'vivarium_machines', help: 'Machines that exist.', value: machines.list().length },
      {
        name: 'vivarium_storage_degraded',
        help: '1 while the data folder takes nothing: what runs is held back, what is new refused.',
        value: storage.lastProblem === undefined ? 0 : 1,
      },
      { name: 'vivarium_ready_machines', help: 'Machines ready for any task.', value: pool.counts().machines },
      {
        name: 'vivarium_retention_removed_bytes',
        help: 'Bytes that retention has removed since the start.',
        value: retention.freed.bytes,
      },
      { name: 'vivarium_ready_agents', help: 'Machines in which an agent waits.', value: pool.counts().agents },
    ],
    onError: (error, request) => {
      if (error.code !== 'shutting_down') log.error({ err: error, ...request }, error.message)
    },
  }
  const app = createApp(services, {
    listenHost: config.listen.host,
    publicHosts: config.publicHosts,
    version: VERSION,
    heartbeatMs: HEARTBEAT_MS,
    maxUploadBytes: config.results.maxMib * 1024 ** 2,
  })
  const ownership = stack.move()
  return {
    app,
    identity,
    owner,
    tasks,
    events,
    machines,
    access,
    async recover() {
      await gateway.settle()
      const removed = await machines.reconcile(await tasks.claims())
      if (removed.length > 0)
        log.warn({ machines: removed }, 'removed machines of an orchestrator that did not stop in order')
      await access.recover()
      await reaper.begin()
      await tasks.recover()
      const orphans = await sweepOrphans(database, blobs)
      if (orphans > 0) log.warn({ folders: orphans }, 'removed files that belonged to no task')
      retention.run().catch((err: unknown) => log.error({ err }, 'what is due for removal could not be removed'))
    },
    drain,
    answers: async () => (await identity.listUsers()).length > 0,
    isBusy: () => tasks.activeCount() > 0 || machines.list().some(isLostByStopping),
    [Symbol.asyncDispose]: () => ownership.disposeAsync(),
  }
}

/** Process 1 of a container outlives its machines no more than they outlive it: the kernel ends them with it. */
function whatOutlives(atShutdown: Config['tasks']['atShutdown']): Config['tasks']['atShutdown'] {
  return process.pid === 1 && atShutdown === 'leave' ? 'suspend' : atShutdown
}

/** A step that is taken once, however often it is asked for. */
function once<Result>(step: () => Promise<Result>): () => Promise<Result> {
  let taken: Promise<Result> | undefined
  return () => (taken ??= step())
}

/** Null where templates are switched off. They lie in the cache folder: they can be rebuilt, and several data folders share them. */
function templateOptions({ template, cacheDir }: Config, identity: Identity): MachinesOptions['templates'] {
  if (!template.enabled) return null
  return {
    folder: join(cacheDir, 'templates'),
    maxBytes: template.diskMib * 1024 ** 2,
    memory: template.memory,
    severalUsers: async () => (await identity.listUsers()).length > 1,
    warm: template.warm,
  }
}

/** What is kept ready: of the plain template, and of those that are named. */
function readyKinds({ ready, template }: Config): ReadyKind[] {
  if (!template.enabled) return []
  const { memoryMib, vcpus } = ready
  const named = Object.entries(ready.templates).map(([name, { machines, claude }]) => ({
    template: name,
    memoryMib,
    vcpus,
    machines,
    agents: claude,
  }))
  return [{ template: null, memoryMib, vcpus, machines: ready.machines, agents: ready.claude }, ...named]
}

/** With what Claude Code is started to wait: the placeholder of the owner's credential serves everybody with one of the same kind. */
function agentToWait({ ready }: Config, gateway: Gateway, ownerId: string): WaitingFor | undefined {
  const credentialKind = gateway.credentialKind(ownerId)
  return credentialKind && { model: ready.model ?? null, credentialKind }
}

/** The way out of a machine in which a template is made: the owner's. */
function warmEgress(gateway: Gateway, userId: string, machineId: string, allow: readonly string[]): WarmEgress {
  const policy = { allow: [...allow] }
  const session = gateway.open({ machineId, userId, taskId: null, policy, maxCostUsd: undefined })
  return { accept: (socket) => session.accept(socket), [Symbol.asyncDispose]: () => session.close() }
}

/** Bytes of memory that this process may use: the host's, or less where its control group has a limit. */
function usableMemory(): number {
  return Math.min(totalmem(), process.constrainedMemory() || Infinity)
}

/** Ready machines are nobody's, and a suspended one that is kept is there again after the next start. */
function isLostByStopping({ userId, state, keepUntil }: MachineInfo): boolean {
  return userId !== NOBODY && (state !== 'suspended' || keepUntil === null)
}

/** The dashboard's files, of those the program has. */
function dashboardAssets(): ApiServices['assets'] {
  const names = new Set(assetNames('web/'))
  return { read: (name) => (names.has(name) ? readAsset(name) : undefined) }
}
