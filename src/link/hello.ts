import { createHash, randomBytes } from 'node:crypto'
import type { HelloRequest } from './protocol.ts'

/** A hello as of this moment, for the machine of this name. To be made anew for every time it is sent. */
export function helloRequest(machine: string, hostname: string): HelloRequest {
  return {
    wallClockMs: Date.now(),
    entropyHex: randomBytes(64).toString('hex'),
    hostname,
    // The same whenever this machine goes on, another for every copy of it.
    machineId: createHash('sha256').update(`vivarium machine ${machine}`).digest('hex').slice(0, 32),
  }
}
