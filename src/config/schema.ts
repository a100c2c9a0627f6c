import { z } from 'zod'
import { EngineName } from '../contracts/machine.ts'
import { HostRule, NetworkPolicy, RouteRule, UpstreamName } from '../contracts/network.ts'
import { SecretName } from '../contracts/secret.ts'
import { TemplateName } from '../contracts/template.ts'

export const LogLevel = z.enum(['debug', 'info', 'warn', 'error'])
export type LogLevel = z.infer<typeof LogLevel>

/** `host:port`, `[v6]:port`, or a bare port; port 0 takes a free one. */
export const ListenAddress = z
  .string()
  .regex(/^(?:(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):)?\d{1,5}$/, 'must be host:port, e.g. 127.0.0.1:8080')

const packageName = z.string().regex(/^@?[A-Za-z0-9][A-Za-z0-9+._/@-]*$/, 'must be a package name')

const usd = z.number().min(0)

const PeriodBudget = z.strictObject({ dayUsd: usd.default(0), monthUsd: usd.default(0) })

/** A server that guests reach at `http://127.0.0.1:3130/NAME/`, with a credential that the gateway adds. */
export const UpstreamSetting = z.strictObject({
  name: UpstreamName.refine((name) => name !== 'anthropic' && name !== 'local', 'is taken: choose another name'),
  /** Where requests go; its path stands before theirs. */
  url: z
    .url({ protocol: /^https?$/ })
    .refine((url) => !/[@?#]/.test(url), 'must hold no user, query or fragment: give a credential as a secret'),
  /** The credential: a header field with a stored secret in it. */
  inject: z
    .strictObject({
      header: z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/, 'must be the name of a header field')
        .refine(
          (name) => !/^(?:host|connection|content-length|transfer-encoding|upgrade|te)$/i.test(name),
          'is not for this',
        )
        .transform((name) => name.toLowerCase())
        .default('authorization'),
      /** The user's own counts before a shared one. */
      secret: SecretName,
      /** What stands in the field; what follows `Basic ` is encoded. */
      format: z
        .string()
        .max(1000)
        .regex(
          /^[\x20-\x7e]*\{secret\}[\x20-\x7e]*$/,
          'must be printable ASCII with {secret} in it, e.g. "Bearer {secret}"',
        )
        .default('Bearer {secret}'),
    })
    .optional(),
  /** Requests that it takes; all of them unless given. */
  allow: z.array(RouteRule).default([{ method: '*', path: '/**' }]),
})
export type UpstreamSetting = z.infer<typeof UpstreamSetting>

/** The settings file `vivarium.json`. Every field has a default, so that an empty file is a valid one. */
export const Settings = z.strictObject({
  $schema: z.string().optional(),
  /** Address and port of API, dashboard and MCP. */
  listen: ListenAddress.default('127.0.0.1:8080'),
  engine: z.enum(['auto', ...EngineName.options]).default('auto'),
  log: LogLevel.default('info'),
  /** Names by which clients may reach this server besides its address and localhost: checked against Host and Origin. */
  publicHosts: z.array(z.string()).default([]),
  anthropic: z
    .strictObject({
      /** Where model requests go. */
      upstream: z.url({ protocol: /^https?$/ }).default('https://api.anthropic.com'),
    })
    .prefault({}),
  image: z
    .strictObject({
      /** Extra packages for the guest. */
      packages: z
        .strictObject({ debian: z.array(packageName).default([]), npm: z.array(packageName).default([]) })
        .prefault({}),
    })
    .prefault({}),
  network: z
    .strictObject({
      /** What every machine may reach. */
      allow: z.array(HostRule).default(['packages', 'github']),
      /** By user name: adds to that for one user's machines, or replaces it where `none` stands in it. */
      users: z.record(z.string().min(1).max(64), NetworkPolicy).default({}),
    })
    .prefault({}),
  upstreams: z
    .array(UpstreamSetting)
    .max(100)
    .default([])
    .refine((list) => new Set(list.map(({ name }) => name)).size === list.length, 'must have names of their own'),
  /** Dollars (UTC days and months) after which model requests are refused; 0 is no limit. A task has its own besides (`maxCostUsd`). */
  budgets: z
    .strictObject({
      /** For each user. */
      user: PeriodBudget.prefault({}),
      /** For single users, by name; what is left out is as in `user`. */
      users: z.record(z.string(), z.strictObject({ dayUsd: usd.optional(), monthUsd: usd.optional() })).default({}),
      /** For everybody together. */
      global: PeriodBudget.prefault({}),
    })
    .prefault({}),
  /** Prices of models, in dollars per million tokens: in place of, and besides, those that come with the program. */
  prices: z
    .record(
      z.string().min(1).max(200),
      z.strictObject({
        input: usd,
        output: usd,
        cacheRead: usd.optional(),
        cacheWrite5m: usd.optional(),
        cacheWrite1h: usd.optional(),
      }),
    )
    .default({}),
  /** What one machine may ask of the gateway. */
  limits: z
    .strictObject({
      /** Both directions together, in million bits a second; 0 is no limit. */
      mbitPerSecond: z.int().min(0).default(0),
      /** Connections and requests begun within a minute; 0 is no limit. */
      requestsPerMinute: z.int().min(0).default(0),
      /** Connections and requests at once. */
      connections: z.int().min(1).max(256).default(256),
    })
    .prefault({}),
  machines: z
    .strictObject({
      /** Size limit of a machine's scratch disk, in MiB. Disks are sparse: it costs what is written. */
      scratchMib: z.int().min(1024).max(4_194_304).default(16_384),
      /** Guest memory of all machines together, in MiB; 0 takes three quarters of this host's. */
      totalMemoryMib: z.int().min(0).default(0),
      /** Virtual processors of all machines together, for each of this host's cores: they mostly wait. */
      vcpusPerCore: z.number().min(0.1).max(10_000).default(4),
      /** Machines at once; 0 derives it from the host's cores. */
      maxMachines: z.int().min(0).default(0),
      /** No machine starts where less of the data folder's disk would stay free, in MiB; 0 takes a twentieth of it (1 to 16 GiB). */
      minFreeDiskMib: z.int().min(0).default(0),
      /** What a machine may be expected to write, in MiB: so much more must be free for each that runs or is to start. */
      expectedDiskMib: z.int().min(0).max(4_194_304).default(1024),
      /** A kept machine that nobody uses for so long is suspended; it goes on when it is used. 0 never. */
      suspendIdleSeconds: z.int().min(0).default(120),
    })
    .prefault({}),
  template: z
    .strictObject({
      /** False boots every machine. */
      enabled: z.boolean().default(true),
      /** Disk that all templates together may take, in MiB; the oldest unused are removed first. */
      diskMib: z.int().min(1024).default(20_480),
      /**
       * `mapped`: machines share a template's memory until they write to it. `stream`: each reads its own copy, slower and larger.
       * `auto` maps, unless an escaped guest could change the file for others (QEMU before 8.2) and there are several users.
       */
      memory: z.enum(['auto', 'mapped', 'stream']).default('auto'),
      /** Named templates: what is run once in each, as the agent user in /workspace, before it is saved. */
      warm: z
        .record(
          TemplateName,
          z.strictObject({
            script: z.string().min(1).max(100_000),
            /** Hosts that the script may reach besides `network.allow`. */
            allow: z.array(HostRule).default([]),
            timeoutSeconds: z.int().min(1).max(86_400).default(1800),
          }),
        )
        .default({}),
    })
    .prefault({}),
  ready: z
    .strictObject({
      /** Restored machines kept ready for any task. */
      machines: z.int().min(0).max(100).default(1),
      /** Machines in which Claude Code already waits for its prompt: for tasks without files, repository or options of their own. */
      claude: z.int().min(0).max(100).default(1),
      /** Size of ready machines: a task's defaults. */
      memoryMib: z.int().min(512).default(2048),
      vcpus: z.int().min(1).default(2),
      /** The model a waiting Claude was started with; unset is Claude Code's own default. */
      model: z.string().optional(),
      /** The same for named templates. */
      templates: z
        .record(
          TemplateName,
          z.strictObject({ machines: z.int().min(0).max(100).default(0), claude: z.int().min(0).max(100).default(0) }),
        )
        .default({}),
      /** Without a task for so long, ready machines are let go. */
      idleSeconds: z.int().min(1).default(900),
    })
    .prefault({}),
  results: z
    .strictObject({
      /** All result files of one task together, in MiB. */
      maxMib: z.int().min(1).default(4096),
      /** The largest workspace that is stored for follow-ups on another machine, in MiB; 0 stores none. */
      stateMib: z.int().min(0).default(1024),
      maxFiles: z.int().min(1).default(50_000),
      /** Names of folders and files that are never brought back, wherever they stand (`*` as in a shell). */
      exclude: z
        .array(z.string().min(1))
        .default([
          '.git',
          'node_modules',
          '__pycache__',
          '.venv',
          '.cache',
          '.npm',
          '.mypy_cache',
          '.pytest_cache',
          '.tox',
          '*.pyc',
        ]),
    })
    .prefault({}),
  tasks: z
    .strictObject({
      /** Waiting tasks beyond this are refused with 429; a user may have at most four times as many as there are places left. */
      maxQueued: z.int().min(1).default(1000),
      /** A task goes before those of its user with a priority lower by one level, unless they have waited so much longer. */
      agingSeconds: z.int().min(1).default(600),
      /** How often a task is started again whose machine failed before its agent was started, or which asked for it (`requeue`). */
      maxRetries: z.int().min(0).max(10).default(2),
      /**
       * What becomes of running tasks when the server stops. `suspend`: they are saved to disk and go on at the next start; where that can't be
       * done they are stopped. `leave`: their machines run on, and the next start takes them up. `stop`: they end as `interrupted`.
       */
      atShutdown: z.enum(['suspend', 'leave', 'stop']).default('suspend'),
    })
    .prefault({}),
  /** What is finished is removed in time, the oldest first, never what runs, waits, or is needed by what does. 0 is no limit. */
  retention: z
    .strictObject({
      /** Results, patches and transcripts: each for so long, all together in so many MiB. */
      resultsDays: z.int().min(0).default(90),
      resultsMib: z.int().min(0).default(51_200),
      /** Workspaces and conversations stored for follow-ups. */
      stateDays: z.int().min(0).default(30),
      stateMib: z.int().min(0).default(51_200),
      eventsDays: z.int().min(0).default(90),
      eventsMib: z.int().min(0).default(20_480),
      /** Whole tasks. What they cost stays in the usage. */
      tasksDays: z.int().min(0).default(365),
      /** Suspended kept machines together, in MiB; each ends by itself when its time is over. */
      suspendedMib: z.int().min(0).default(51_200),
    })
    .prefault({}),
  backup: z
    .strictObject({
      /** The database is copied once a day, into the data folder; so many days' copies are kept, 0 makes none. */
      keep: z.int().min(0).max(365).default(7),
    })
    .prefault({}),
  storage: z
    .strictObject({
      /** With less than this free on the data folder's disk, nothing new is taken, in MiB. */
      minFreeMib: z.int().min(0).default(64),
      /** How long what runs is held back while the disk takes nothing, before it ends for that. */
      patienceSeconds: z.int().min(0).max(86_400).default(900),
    })
    .prefault({}),
  /** Exit after this many seconds without a task, machine or client; 0 never. Set by clients that start a server themselves. */
  idleExitSeconds: z.int().min(0).default(0),
})
export type Settings = z.infer<typeof Settings>

/** The whole configuration of one orchestrator: settings, folders, and what came from the environment. No optional fields. */
export interface Config extends Omit<Settings, '$schema' | 'listen'> {
  listen: { host: string; port: number }
  /** Data folder: database, results, keys. */
  home: string
  /** What can be rebuilt: guest images, engine probes. Shared by all data folders of this user. */
  cacheDir: string
  /** Short folder for sockets of running machines. */
  runDir: string
  /** Credentials from the environment; never logged, never given to a guest. */
  credentials: {
    apiKey: string | undefined
    oauthToken: string | undefined
    /** The vault's master key, and the one before it: see `vault/master-key.ts`. */
    masterKey: string | undefined
    previousMasterKey: string | undefined
    /** Where systemd puts this service's credentials. */
    directory: string | undefined
  }
}
