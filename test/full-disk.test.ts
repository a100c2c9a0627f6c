import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { canMount, mountSmallDisk } from '../src/store/testing/small-disk.ts'
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
