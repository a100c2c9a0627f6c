import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createClient } from '../../src/client/client.ts'
import type { VivariumClient } from '../../src/client/types.ts'
import { findEndpoint, type Endpoint } from '../../src/server/endpoint.ts'
import { freePort } from '../support/free-port.ts'
import type { ReaderPlan, ReadersReport, ToReaders } from './readers.ts'
import type { Play } from './simulated-machines.ts'

const ORCHESTRATOR = fileURLToPath(new URL('orchestrator.ts', import.meta.url))
const READERS = fileURLToPath(new URL('readers.ts', import.meta.url))
const SUBMITS_AT_ONCE = 16

/** An orchestrator with simulated machines and any number of readers, in a process each. */
export interface Scene extends AsyncDisposable {
  readonly home: string
  readonly client: VivariumClient
  /** Starts tasks; resolves with their ids when all are accepted. */
  submit(count: number, play: Play): Promise<string[]>
  /** Has readers read these tasks. */
  read(readers: Omit<ReaderPlan, 'url' | 'key'>[]): void
  /** Lets slow readers go on. */
  goOn(): void
  report(): Promise<ReadersReport>
  /** Until the readers' report satisfies `isEnough`. Rejects after `deadlineMs`. */
  until(isEnough: (report: ReadersReport) => boolean, deadlineMs: number): Promise<ReadersReport>
  /** Kills the orchestrator and starts it again. */
  killAndStart(): Promise<void>
  /** A line of the orchestrator's /proc/PID/status, in MiB: `VmHWM` is the most it ever took, `VmRSS` what it takes now. */
  memoryMib(field: 'VmHWM' | 'VmRSS'): number
}

export async function openScene(): Promise<Scene> {
  await using stack = new AsyncDisposableStack()
  const home = mkdtempSync(join(tmpdir(), 'vivarium-scale-'))
  stack.defer(() => rmSync(home, { recursive: true, force: true }))
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    VIVARIUM_HOME: home,
    VIVARIUM_CACHE: join(home, 'cache'),
    VIVARIUM_LISTEN: `127.0.0.1:${await freePort()}`,
    VIVARIUM_MACHINES_MAX_MACHINES: '10000',
    VIVARIUM_MACHINES_TOTAL_MEMORY_MIB: '100000000',
    VIVARIUM_MACHINES_VCPUS_PER_CORE: '10000',
    VIVARIUM_MACHINES_EXPECTED_DISK_MIB: '0',
    VIVARIUM_TASKS_MAX_QUEUED: '10000',
    VIVARIUM_READY_MACHINES: '0',
    VIVARIUM_READY_CLAUDE: '0',
    VIVARIUM_LOG: 'warn',
  }
  const start = () => spawn(process.execPath, [ORCHESTRATOR], { env, stdio: ['ignore', 'ignore', 'inherit'] })
  let orchestrator = start()
  stack.defer(() => killed(orchestrator))
  let endpoint = await untilAnnounced(orchestrator, home)
  const readers = fork(READERS, { execArgv: [] })
  stack.defer(() => killed(readers))
  const client = createClient({ url: endpoint.url, apiKey: endpoint.key })
  const tell = (message: ToReaders) => readers.send(message)
  const report = async () => {
    const answer = once(readers, 'message')
    tell({ report: true })
    const [told] = (await answer) as [ReadersReport]
    return told
  }
  const ownership = stack.move()
  return {
    home,
    client,
    async submit(count, play) {
      const ids: string[] = []
      const request = { prompt: JSON.stringify(play), agent: 'shell', memoryMib: 512, vcpus: 1 } as const
      const submitSome = async () => {
        while (ids.length < count) {
          const at = ids.push('') - 1
          ids[at] = (await client.tasks.submit(request)).id
        }
      }
      await Promise.all(Array.from({ length: SUBMITS_AT_ONCE }, submitSome))
      return ids
    },
    read: (plans) => void tell({ read: plans.map((plan) => ({ ...plan, url: endpoint.url, key: endpoint.key })) }),
    goOn: () => void tell({ goOn: true }),
    report,
    async until(isEnough, deadlineMs) {
      const latencies: number[] = []
      for (const deadline = Date.now() + deadlineMs; ; await sleep(100)) {
        const told = await report()
        for (const latency of told.latencies) latencies.push(latency)
        if (isEnough(told)) return { ...told, latencies }
        if (Date.now() > deadline)
          throw new Error(`The readers are not done: ${JSON.stringify({ ...told, lastSeqs: {}, latencies: [] })}`)
      }
    },
    async killAndStart() {
      await killed(orchestrator)
      orchestrator = start()
      endpoint = await untilAnnounced(orchestrator, home)
    },
    memoryMib(field) {
      const status = readFileSync(`/proc/${orchestrator.pid}/status`, 'utf8')
      return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1]) / 1024
    },
    [Symbol.asyncDispose]: () => ownership.disposeAsync(),
  }
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

async function untilAnnounced(child: ChildProcess, home: string): Promise<Endpoint> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(20)) {
    const endpoint = findEndpoint(home)
    // One that was killed leaves its own behind.
    if (endpoint?.pid === child.pid) return endpoint as Endpoint
    if (child.exitCode !== null) break
  }
  throw new Error('The simulated orchestrator did not start.')
}
