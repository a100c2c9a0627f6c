import { closeSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs'
import type { HelloRequest } from '../src/link/protocol.ts'
import type { Kernel } from './kernel.ts'
import { attempt, log, messageOf } from './log.ts'

const BOOT_ID = '/proc/sys/kernel/random/boot_id'
const OWN_BOOT_ID = '/run/vivarium/boot_id'

/** The machine's boot id. */
export function bootId(): string {
  return readFileSync(BOOT_ID, 'utf8').trim()
}

/**
 * Puts a file in the place of the kernel's boot id, which the kernel makes when it is first read and keeps for good: copies of a
 * machine would share it. Done before anybody reads it, so that the kernel has none yet in a machine that is saved.
 */
export async function ownBootId(kernel: Kernel): Promise<void> {
  try {
    // An agent before this one has done it.
    if (sameFile(OWN_BOOT_ID, BOOT_ID)) return
    writeFileSync(OWN_BOOT_ID, freshUuid(), { mode: 0o444 })
    await kernel.bind(OWN_BOOT_ID, BOOT_ID)
  } catch (error) {
    log(`boot id: ${messageOf(error)}`)
  }
}

/** Takes over host name and machine id. With another machine id than before, this machine is a copy, and gets a boot id of its own. */
export function takeIdentity({ hostname, machineId }: Pick<HelloRequest, 'hostname' | 'machineId'>): void {
  attempt('hostname', () => writeFileSync('/proc/sys/kernel/hostname', hostname))
  attempt('hostname', () => writeFileSync('/etc/hostname', `${hostname}\n`))
  attempt('hosts', () => nameItself(hostname))
  attempt('machine id', () => {
    const line = `${machineId}\n`
    if (readFileSync('/etc/machine-id', 'utf8') === line) return
    writeFileSync('/etc/machine-id', line)
    renewBootId()
  })
}

/** In place, since the file is mounted; as long as the one before, so that nobody reads half of it. */
function renewBootId(): void {
  const file = openSync(OWN_BOOT_ID, 'r+')
  writeSync(file, freshUuid(), 0)
  closeSync(file)
}

/** From the kernel: the random state of this process is the same in every copy of the machine. */
function freshUuid(): string {
  return readFileSync('/proc/sys/kernel/random/uuid', 'utf8')
}

function sameFile(one: string, other: string): boolean {
  const [first, second] = [statSync(one, { throwIfNoEntry: false }), statSync(other)]
  return first?.ino === second.ino && first.dev === second.dev
}

/** A name that does not resolve makes sudo complain at every call. */
function nameItself(hostname: string): void {
  const lines = readFileSync('/etc/hosts', 'utf8').split('\n')
  const others = lines.filter((line) => line !== '' && !line.startsWith('127.0.1.1 '))
  writeFileSync('/etc/hosts', `${[...others, `127.0.1.1 ${hostname}`].join('\n')}\n`)
}
