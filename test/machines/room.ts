import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createImages } from '../../src/images/images.ts'
import { makeFolders, removeFolders } from '../../src/machines/folders.ts'
import { processesOf } from '../../src/machines/process-identity.ts'
import { createQemuEngine } from '../../src/machines/qemu/engine.ts'
import { listenForVmm } from '../../src/machines/sockets.ts'
import { leaseUid } from '../../src/machines/uid-lease.ts'
import type { VmmSpec } from '../../src/machines/types.ts'

/** The image that the suite shares; built by whichever test comes first. */
export const images = createImages({
  cacheDir: process.env['VIVARIUM_CACHE'] ?? '/var/cache/vivarium',
  extraPackages: { debian: [], npm: [] },
})

/** Folders of a test's own, and what is needed to start one VMM in them. */
export async function openRoom() {
  const cacheDir = await mkdtemp(join(tmpdir(), 'engine-'))
  const runDir = `/run/vivarium-test-${randomBytes(4).toString('hex')}`
  const id = 'vm_000000000000'
  const uid = await leaseUid(new Set())
  const folders = { runDir: join(runDir, id), diskDir: join(cacheDir, 'disks', id) }
  await makeFolders(folders, uid)
  const image = await images.ensure()
  const spec: VmmSpec = {
    id,
    ...folders,
    uid,
    image,
    scratchBase: await images.emptyScratch(1024),
    memoryMib: 1024,
    vcpus: 2,
    memory: 'anonymous',
  }
  return {
    runDir,
    cacheDir,
    spec,
    engine: (accel: 'kvm' | 'tcg') => createQemuEngine({ accel, cacheDir, runDir, image: async () => image }),
    /** Listens as the host does; `connected` resolves when the VMM has dialled both streams. */
    async listen() {
      const streams = new AsyncDisposableStack()
      const dialled = ['control.sock', 'egress.sock'].map(async (name) => {
        const { promise, resolve } = Promise.withResolvers<void>()
        streams.use(await listenForVmm(join(folders.runDir, name), uid, () => resolve()))
        return { promise }
      })
      const connected = (await Promise.all(dialled)).map(({ promise }) => promise)
      return { connected: Promise.all(connected), [Symbol.asyncDispose]: () => streams.disposeAsync() }
    },
    /** Everything of the machine that is still there: processes, control group, folders. */
    async traces(): Promise<string[]> {
      const group = `/sys/fs/cgroup/unified/vivarium/${id}`
      const running = (await processesOf(uid)).filter(({ zombie }) => !zombie)
      const left = running.map(({ pid }) => `process ${pid}`)
      const paths = [group, group.replace('/unified', '')].filter((path) => existsSync(path))
      return [...left, ...paths, ...readdirSync(runDir)]
    },
    async [Symbol.asyncDispose]() {
      await removeFolders(Object.values(folders))
      await rm(runDir, { recursive: true, force: true })
      await rm(cacheDir, { recursive: true, force: true })
    },
  }
}

/** One line of /proc/PID/status. */
export async function statusOf(pid: number, field: string): Promise<string[]> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return (
    status
      .split('\n')
      .find((line) => line.startsWith(`${field}:`))
      ?.split(/\s+/)
      .slice(1) ?? []
  )
}
