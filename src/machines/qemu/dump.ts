import { constants, createWriteStream, openSync } from 'node:fs'
import { lchown, rm } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { SANDBOX_RUN_DIR } from './sandbox.ts'
import type { Qmp } from './qmp.ts'

const FIFO = 'memory.fifo'

/** Gigabytes through a pipe to a slow disk. */
const DUMP_DEADLINE_MS = 30 * 60_000

/**
 * Writes the guest's memory to `path` as an ELF core file. QEMU may write to its run folder only, which is often memory
 * itself, so the dump comes through a named pipe. The guest stands still meanwhile.
 */
export async function dumpGuestMemory(qmp: Qmp, runDir: string, uid: number | undefined, path: string): Promise<void> {
  const fifo = join(runDir, FIFO)
  await execa('mkfifo', ['-m', '600', fifo])
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => rm(fifo, { force: true }))
  // The folder is QEMU's, which may have put a link to a file of ours in the pipe's place: no link is followed.
  if (uid !== undefined) await lchown(fifo, uid, uid)
  // Non-blocking, so that the open does not wait for QEMU.
  const fd = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  const reader = new Socket({ fd, readable: true, writable: false })
  const written = pipeline(reader, createWriteStream(path, { mode: 0o600 }))
  const dumped = qmp
    .execute('dump-guest-memory', { paging: false, protocol: `file:${SANDBOX_RUN_DIR}/${FIFO}` }, DUMP_DEADLINE_MS)
    .catch((error: unknown) => {
      reader.destroy()
      throw error
    })
  await Promise.all([written, dumped])
}
