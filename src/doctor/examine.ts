import { freemem, totalmem } from 'node:os'
import type { Config } from '../config/schema.ts'
import { installCommand, missingTools, type HostTool } from '../images/host-tools.ts'
import type { Images } from '../images/types.ts'
import type { Engine, EngineProbe } from '../machines/types.ts'

import { checkLeaks } from './leaks.ts'
import { checkRestarts } from './restarts.ts'
import type { Check, Report } from './types.ts'
import { checkDisk } from './disk.ts'
import { checkVault } from './vault.ts'

/** What the doctor looks at. */
export interface DoctorHost {
  config: Config
  images: Images
  /** Best first. */
  engines: readonly Engine[]
  tools: HostTool[]
}

/** A task needs about this much. */
const COMFORTABLE_MEMORY = 4 * 1024 ** 3

/** Looks at everything a task needs on this host. Engines are probed by booting, which takes seconds the first time. */
export async function examine(host: DoctorHost, signal?: AbortSignal): Promise<Report> {
  const image = await host.images.find()
  const probes = image === undefined ? [] : await Promise.all(host.engines.map((engine) => engine.probe(signal)))
  const chosen = choose(host, probes)
  const checks = [
    checkNode(),
    checkTools(host.tools),
    checkImage(image?.manifest),
    ...checkEngines(host, probes, chosen),
    ...checkVault(host.config),
    checkMemory(),
    await checkDisk(host.config),
    checkUser(),
    checkRestarts(host.config.home),
    await checkLeaks(host.config),
  ]
  return { checks, engine: chosen?.name ?? null, ready: checks.every((check) => check.status !== 'missing') }
}

function choose(host: DoctorHost, probes: readonly EngineProbe[]): Engine | undefined {
  return host.engines.find(
    (engine, index) =>
      probes[index]?.works === true && (host.config.engine === 'auto' || host.config.engine === engine.name),
  )
}

function checkNode(): Check {
  const major = Number(process.versions.node.split('.')[0])
  return major >= 26
    ? { name: 'Node.js', status: 'ok', detail: process.version, fix: null }
    : { name: 'Node.js', status: 'missing', detail: `${process.version} is too old: 26 is needed`, fix: 'npm ci' }
}

function checkTools(tools: HostTool[]): Check {
  const missing = missingTools(tools)
  if (missing.length === 0)
    return { name: 'host packages', status: 'ok', detail: tools.map(({ tool }) => tool).join(', '), fix: null }
  const detail = `missing: ${missing.map(({ tool, why }) => `${tool} (${why})`).join(', ')}`
  return { name: 'host packages', status: 'missing', detail, fix: installCommand(missing) }
}

function checkImage(
  manifest: { key: string; kernelVersion: string; nodeVersion: string; claudeVersion: string } | undefined,
): Check {
  if (manifest === undefined)
    return { name: 'guest image', status: 'missing', detail: 'not built yet', fix: 'vivarium image build' }
  const { key, kernelVersion, nodeVersion, claudeVersion } = manifest
  return {
    name: 'guest image',
    status: 'ok',
    detail: `${key}: Linux ${kernelVersion}, Node.js ${nodeVersion}, Claude Code ${claudeVersion}`,
    fix: null,
  }
}

/** Every engine, and in words why the chosen one is not a better one. */
function checkEngines(host: DoctorHost, probes: readonly EngineProbe[], chosen: Engine | undefined): Check[] {
  if (probes.length === 0) {
    return [
      {
        name: 'engine',
        status: 'missing',
        detail: 'can be judged once the guest image is built: engines are probed by booting it',
        fix: null,
      },
    ]
  }
  const checks = host.engines.map((engine, index): Check => {
    const probe = probes[index]
    const version = probe?.version ?? 'not found'
    const isolation = engine.capabilities.hardwareIsolation
      ? 'hardware isolation'
      : 'software emulation: slower, and its authors do not call it a security boundary'
    const detail = probe?.works === true ? `QEMU ${version}, ${isolation}` : (probe?.reason ?? 'did not answer')
    return {
      name: `engine ${engine.name}`,
      status: probe?.works === true ? 'ok' : 'warning',
      detail,
      fix: probe?.fix ?? null,
    }
  })
  const verdict: Check =
    chosen === undefined
      ? { name: 'engine', status: 'missing', detail: `no engine works for "${host.config.engine}"`, fix: null }
      : { name: 'engine', status: 'ok', detail: `${chosen.name} will be used`, fix: null }
  return [...checks, verdict]
}

function checkMemory(): Check {
  const detail = `${gib(freemem())} GiB free of ${gib(totalmem())} GiB`
  return { name: 'memory', status: totalmem() < COMFORTABLE_MEMORY ? 'warning' : 'ok', detail, fix: null }
}

function checkUser(): Check {
  return process.getuid?.() === 0
    ? { name: 'user', status: 'ok', detail: 'root: every machine runs under a uid of its own', fix: null }
    : {
        name: 'user',
        status: 'warning',
        detail: 'not root: machines run under your own uid, and images can not be built',
        fix: null,
      }
}

function gib(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1)
}
