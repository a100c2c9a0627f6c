import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { createImages } from '../../src/images/images.ts'
import { makeFolders } from '../../src/machines/folders.ts'
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

/** Folders of a test's own, and what is needed to start VMMs in them: one, or `another`. */
export async function openRoom() {
  const cacheDir = await mkdtemp(join(tmpdir(), 'engine-'))
  const runDir = `/run/vivarium-test-${randomBytes(4).toString('hex')}`
  const image = await images.ensure()
  const scratchBase = await images.emptyScratch(1024)
  const uids = new Set<number>()

  async function place(id: string) {
    const uid = await leaseUid(uids)
    uids.add(uid)
    const folders = { runDir: join(runDir, id), diskDir: join(cacheDir, 'disks', id) }
    await makeFolders(folders, uid)
    const size = { memoryMib: 1024, vcpus: 2, memory: 'anonymous' as const }
    const spec: VmmSpec = { id, ...folders, uid, image, scratchBase, ...size }
    return {
      spec,
      /** Listens as the host does; `connected` resolves when the VMM has dialled both streams. */
      async listen(control: (socket: Socket) => void = () => {}) {
        await using streams = new AsyncDisposableStack()
        const dial = async (name: string, accept: (socket: Socket) => void) => {
          const { promise, resolve } = Promise.withResolvers<void>()
          const taken = (socket: Socket) => {
            accept(socket)
            resolve()
          }
          streams.use(await listenForVmm(join(folders.runDir, name), uid, taken))
          return { promise }
        }
        const dialled = [await dial('control.sock', control), await dial('egress.sock', () => {})]
        const connected = Promise.all(dialled.map(({ promise }) => promise))
        const listening = streams.move()
        return { connected, [Symbol.asyncDispose]: () => listening.disposeAsync() }
      },
      /** Processes and control group of the machine that are still there. */
      async remains(): Promise<string[]> {
        const group = `/sys/fs/cgroup/unified/vivarium/${basename(runDir)}/${id}`
        const running = (await processesOf(uid)).filter(({ zombie }) => !zombie)
        const left = running.map(({ pid }) => `process ${pid}`)
        return [...left, ...[group, group.replace('/unified', '')].filter((path) => existsSync(path))]
      },
    }
  }

  let count = 0
  const another = () => place(`vm_${String(count++).padStart(12, '0')}`)
  const first = await another()
  return {
    ...first,
    runDir,
    cacheDir,
    another,
    engine: (accel: 'kvm' | 'tcg') => createQemuEngine({ accel, cacheDir, runDir, image: async () => image }),
    /** What remains of the first machine, and every folder in the run folder. */
    traces: async (): Promise<string[]> => [...(await first.remains()), ...readdirSync(runDir)],
    async [Symbol.asyncDispose]() {
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
