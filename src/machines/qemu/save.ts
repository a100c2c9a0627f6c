import { createWriteStream } from 'node:fs'
import { chmod, open, rename, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { toVivariumError, VivariumError } from '../../contracts/errors.ts'
import { listenForVmm } from '../sockets.ts'
import { FILES } from './disk-folder.ts'
import type { MemoryFile } from './memory.ts'
import { cancelMigration, migrate, migrationDeadlineMs } from './migration.ts'
import type { Qmp } from './qmp.ts'
import { SANDBOX_RUN_DIR } from './sandbox.ts'

const SOCKET = 'state.sock'

/** What a state may take beside RAM: devices are less than a megabyte, and RAM has a few bytes more for each page. */
const SPARE_BYTES = 64 * 1024 * 1024
const RAM_FACTOR = 1.02
const MIB = 1024 * 1024

export interface SaveOptions {
  runDir: string
  diskDir: string
  uid: number | undefined
  memoryMib: number
  /** Where RAM is a file, it is not part of the state. */
  memoryFile: MemoryFile
}

/**
 * Makes a saved machine of a stopped one's disk folder: writes `state`, last, when all is on the disk. Rejects with
 * `engine_failed` or the reason of `signal`; the machine can go on in either case.
 */
export async function saveMachine(qmp: Qmp, options: SaveOptions, signal: AbortSignal | undefined): Promise<void> {
  const { diskDir, memoryFile, memoryMib } = options
  const pathOf = (name: keyof typeof FILES) => join(diskDir, FILES[name])
  const deadlineMs = migrationDeadlineMs(memoryMib)
  const late = AbortSignal.timeout(deadlineMs)
  const partial = `${pathOf('state')}.partial`
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rm(partial, { force: true }))
  try {
    await writeState(qmp, options, partial, signal === undefined ? late : AbortSignal.any([late, signal]))
    if (memoryFile === 'sealed') await chmod(pathOf('memory'), 0o444)
    // A saved machine outlives a power cut.
    await Promise.all([flush(pathOf('scratch')), memoryFile === 'none' ? undefined : flush(pathOf('memory'))])
    await rename(partial, pathOf('state'))
    await flush(diskDir)
  } catch (error) {
    await cancelMigration(qmp)
    signal?.throwIfAborted()
    if (late.aborted)
      throw new VivariumError('engine_failed', `The machine could not be saved within ${deadlineMs / 1000} s.`)
    throw toVivariumError(error, 'engine_failed')
  }
}

/** QEMU may start no process and sees no folder but its own, so the state comes through a socket there. */
async function writeState(qmp: Qmp, options: SaveOptions, path: string, stop: AbortSignal): Promise<void> {
  const mapped = options.memoryFile !== 'none'
  const maxBytes = SPARE_BYTES + (mapped ? 0 : options.memoryMib * MIB * RAM_FACTOR)
  const received = Promise.withResolvers<void>()
  received.promise.catch(() => {}) // awaited below, unless an earlier step fails
  stop.addEventListener('abort', () => received.reject(stop.reason))
  const take = (socket: Socket) => received.resolve(receive(socket, path, maxBytes))
  await using _server = await listenForVmm(join(options.runDir, SOCKET), options.uid, take)
  const uri = `unix:${SANDBOX_RUN_DIR}/${SOCKET}`
  await Promise.all([migrate(qmp, 'out', { uri, mapped }, stop), received.promise])
}

/** What comes through the socket, in a file that is on the disk then. */
async function receive(socket: Socket, path: string, maxBytes: number): Promise<void> {
  const capped = async function* (source: AsyncIterable<Buffer>) {
    let size = 0
    for await (const chunk of source) {
      size += chunk.length
      if (size > maxBytes) throw new VivariumError('engine_failed', 'QEMU sent more than the machine can hold.')
      yield chunk
    }
  }
  await pipeline(socket, capped, createWriteStream(path, { mode: 0o600, flush: true }))
}

/** Puts what a file or folder holds on the disk. */
async function flush(path: string): Promise<void> {
  await using file = await open(path, 'r')
  await file.datasync()
}
