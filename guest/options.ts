import { parseArgs } from 'node:util'
import { GUEST_ANTHROPIC_PORT, GUEST_PROXY_PORT, GUEST_UPSTREAM_PORT } from '../src/link/constants.ts'
import { cgroupMount } from './execs/tracking.ts'

/** How the agent runs, fully defaulted. */
export interface AgentOptions {
  /** The two streams: virtio-serial ports of this machine, or unix sockets in a folder (outside a VM, for tests). */
  transport: { kind: 'device' } | { kind: 'sockets'; folder: string }
  /** The agent's own folder: spools, the baseline. */
  stateDir: string
  /** Whether processes are started as the user that a request names. False: as the user the agent runs as. */
  switchUsers: boolean
  /** A cgroup v2 folder in which each exec gets a group of its own; undefined: processes are found by /proc. */
  cgroupDir: string | undefined
  proxyPort: number
  anthropicPort: number
  upstreamPort: number
}

/** Parses the command line; throws on what it does not know. */
export function parseOptions(argv: string[]): AgentOptions {
  const { values } = parseArgs({
    args: argv,
    options: {
      device: { type: 'boolean', default: false },
      connect: { type: 'string' },
      state: { type: 'string', default: '/var/lib/vivarium' },
      'no-setuid': { type: 'boolean', default: false },
      cgroup: { type: 'string' },
      'proxy-port': { type: 'string', default: String(GUEST_PROXY_PORT) },
      'anthropic-port': { type: 'string', default: String(GUEST_ANTHROPIC_PORT) },
      'upstream-port': { type: 'string', default: String(GUEST_UPSTREAM_PORT) },
    },
  })
  if (values.device === (values.connect !== undefined)) throw new Error('give either --device or --connect FOLDER')
  return {
    transport: values.connect === undefined ? { kind: 'device' } : { kind: 'sockets', folder: values.connect },
    stateDir: values.state,
    switchUsers: !values['no-setuid'] && process.getuid?.() === 0,
    cgroupDir: values.cgroup ?? (values.device ? cgroupMount() : undefined),
    proxyPort: Number(values['proxy-port']),
    anthropicPort: Number(values['anthropic-port']),
    upstreamPort: Number(values['upstream-port']),
  }
}
