import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { canMount, mountSmallDisk } from '../src/store/testing/small-disk.ts'
import { loadConfig } from '../src/config/load.ts'
import { startComposed } from './support/composed.ts'

const WRITE =
  'dd if=/dev/urandom of=/home/agent/large bs=1M count=60 conv=fsync 2>&1 && sha256sum /home/agent/large && sync'

test.skipIf(!canMount)(
  'disk full for a machine: it stands still, its task waits and says why, and both go on when there is room',
  async () => {
    await using stack = new AsyncDisposableStack()
    const home = mkdtempSync(join(tmpdir(), 'vivarium-full-'))
    stack.defer(() => rmSync(home, { recursive: true, force: true }))
    mkdirSync(join(home, 'machines'))
    // Machines have a disk of their own, so that what the task says of it can be stored.
    const disk = stack.use(mountSmallDisk({ kib: 256 * 1024, path: join(home, 'machines') }))
    const env = { VIVARIUM_HOME: home, VIVARIUM_TEMPLATE_ENABLED: 'false' }
    const { orchestrator, hold, ownerId } = stack.use(await startComposed({ env }))
    const { tasks, access } = orchestrator
    const held = await hold({ prompt: 'sleep 3000', agent: 'shell', memoryMib: 512, timeoutSeconds: 3600 })
    disk.fill()
    const written = held.exec(WRITE, { timeoutSeconds: 600 })
    await expect
      .poll(() => access.get(ownerId, held.vmId).stalled, { timeout: 120_000 })
      .toMatch(/disk of this host is full/)
    await expect.poll(async () => (await tasks.get(ownerId, held.taskId)).status).toBe('waiting')
    disk.makeRoom()
    expect(await written).toMatch(/[0-9a-f]{64} {2}\/home\/agent\/large/)
    expect(access.get(ownerId, held.vmId).stalled).toBeUndefined()
    await expect.poll(async () => (await tasks.get(ownerId, held.taskId)).status).toBe('running')
    expect(await held.exec('dmesg | grep -c "I/O error" || true')).toBe('0\n')
    await tasks.cancel(ownerId, held.taskId)
    expect(await tasks.wait(ownerId, held.taskId)).toMatchObject({ status: 'cancelled' })
  },
)

test.skipIf(!canMount)(
  'disk full for a template: its build fails and says so, machines are booted meanwhile, and it is begun when there is room',
  async () => {
    await using stack = new AsyncDisposableStack()
    const cacheDir = mkdtempSync(join(tmpdir(), 'vivarium-full-cache-'))
    stack.defer(() => rmSync(cacheDir, { recursive: true, force: true }))
    for (const name of ['images', 'probes', 'scratch'])
      symlinkSync(join(loadConfig().config.cacheDir, name), join(cacheDir, name))
    const folder = join(cacheDir, 'templates')
    mkdirSync(folder)
    const disk = stack.use(mountSmallDisk({ kib: 2 * 1024 * 1024, path: folder }))
    const { orchestrator, client } = stack.use(await startComposed({ env: { VIVARIUM_CACHE: cacheDir } }))
    const { templates, vms } = client(orchestrator.owner.key)
    const size = { memoryMib: 512, vcpus: 1 }
    for (const [leftMib, why] of [
      [0, /^The disk of .* is full\. Make room/],
      [300, /may take 576 MiB, and \d+ MiB are free on the disk of .*Make room/],
    ] as const) {
      disk.fill(leftMib * 1024 ** 2)
      await expect(templates.build(size)).rejects.toMatchObject({
        code: 'storage_failed',
        message: expect.stringMatching(why),
      })
      expect((await readdir(folder)).toSorted()).toEqual(['ballast', 'build.lock'])
      disk.makeRoom()
    }
    disk.fill()
    const { id, startedFrom } = await vms.create(size)
    expect(startedFrom).toBe('boot')
    expect(await vms.exec(id, { command: 'echo works' })).toMatchObject({ stdout: 'works\n' })
    await vms.destroy(id)
    disk.makeRoom()
    const built = templates.build(size).catch((error: Error) => error)
    const isBegun = async () => (await readdir(folder, { recursive: true })).some((path) => path.endsWith('/memory'))
    await expect.poll(isBegun, { timeout: 120_000 }).toBe(true)
    await orchestrator[Symbol.asyncDispose]()
    await built // it is whole, or nothing of it is left
    expect((await readdir(folder)).filter((name) => name.startsWith('.'))).toEqual([])
  },
)
