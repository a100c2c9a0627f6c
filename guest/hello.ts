import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { PROTOCOL_VERSION } from '../src/link/constants.ts'
import type { HelloRequest, HelloResponse } from '../src/link/protocol.ts'
import { answerJson, readJson, type Request } from './http.ts'
import { attempt, log, messageOf } from './log.ts'

/** Of the agent alone: it may be older than the host, in a snapshot. */
const AGENT_VERSION = '1'
/** A clock less wrong than this is left alone: setting it costs a process. */
const CLOCK_TOLERANCE_MS = 500

/**
 * `POST /hello`: takes over clock, randomness and identity, in that order of need: certificates are refused by a wrong
 * clock. `ownsMachine` is false outside a VM, where the machine is somebody else's.
 */
export async function hello({ stream }: Request, ownsMachine: boolean): Promise<void> {
  const request = await readJson<HelloRequest>(stream)
  if (ownsMachine) await introduce(request)
  answerJson(stream, {
    protocol: PROTOCOL_VERSION,
    agentVersion: AGENT_VERSION,
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    uptimeMs: Math.round(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000),
  } satisfies HelloResponse)
}

async function introduce(request: HelloRequest): Promise<void> {
  // Mixed into the kernel's pool, but not credited: that takes an ioctl (RNDADDENTROPY), which Node has not. After a cold boot
  // virtio-rng and the CPU credit the kernel themselves, so that nothing waits for randomness.
  attempt('entropy', () => writeFileSync('/dev/urandom', Buffer.from(request.entropyHex, 'hex')))
  attempt('hostname', () => writeFileSync('/proc/sys/kernel/hostname', request.hostname))
  attempt('hostname', () => writeFileSync('/etc/hostname', `${request.hostname}\n`))
  attempt('hosts', () => nameItself(request.hostname))
  attempt('machine id', () => writeFileSync('/etc/machine-id', `${request.machineId}\n`))
  const error = Math.abs(Date.now() - request.wallClockMs)
  if (error < CLOCK_TOLERANCE_MS) return
  await promisify(execFile)('date', ['-s', `@${(request.wallClockMs / 1000).toFixed(3)}`]).catch((error: unknown) =>
    log(`clock: ${messageOf(error)}`),
  )
}

/** A name that does not resolve makes sudo complain at every call. */
function nameItself(hostname: string): void {
  const lines = readFileSync('/etc/hosts', 'utf8').split('\n')
  const others = lines.filter((line) => line !== '' && !line.startsWith('127.0.1.1 '))
  writeFileSync('/etc/hosts', `${[...others, `127.0.1.1 ${hostname}`].join('\n')}\n`)
}
