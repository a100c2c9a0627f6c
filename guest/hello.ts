import { readFileSync } from 'node:fs'
import { PROTOCOL_VERSION } from '../src/link/constants.ts'
import type { HelloRequest, HelloResponse } from '../src/link/protocol.ts'
import { answerJson, readJson, type Request } from './http.ts'
import { bootId, takeIdentity } from './identity.ts'
import type { Kernel } from './kernel.ts'

/** Of the agent alone: it may be older than the host, in a snapshot. */
const AGENT_VERSION = '1'
/** A clock less wrong than this is left alone: the request itself takes as long. */
const CLOCK_TOLERANCE_MS = 20

/**
 * `POST /hello`: takes over clock, randomness and identity, in that order of need: certificates are refused by a wrong
 * clock, and identity is made of randomness. Without either there is no answer but an error. `kernel` is undefined outside a
 * VM, where the machine is somebody else's.
 */
export async function hello({ stream }: Request, kernel: Kernel | undefined): Promise<void> {
  const request = await readJson<HelloRequest>(stream)
  if (kernel !== undefined) {
    if (Math.abs(Date.now() - request.wallClockMs) > CLOCK_TOLERANCE_MS) await kernel.setClock(request.wallClockMs)
    await kernel.addEntropy(request.entropyHex)
    takeIdentity(request)
  }
  answerJson(stream, {
    protocol: PROTOCOL_VERSION,
    agentVersion: AGENT_VERSION,
    bootId: bootId(),
    uptimeMs: Math.round(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000),
  } satisfies HelloResponse)
}
