import { once } from 'node:events'
import { connect } from 'node:net'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { expect, test } from 'vitest'
import { canLeaseUids } from '../../src/machines/uid-lease.ts'
import type { ProcessIdentity } from '../../src/machines/types.ts'
import { openRoom, statusOf } from './room.ts'

const START_AND_LEAVE = fileURLToPath(new URL('start-and-leave.ts', import.meta.url))
const asRoot = await canLeaseUids()

test('software emulation is proven by a guest that reaches its init, once', async () => {
  await using room = await openRoom()
  const engine = room.engine('tcg')
  const probe = await engine.probe()
  expect(probe).toMatchObject({
    engine: 'qemu-tcg',
    works: true,
    reason: null,
    version: expect.stringMatching(/^\d+\.\d/),
  })
  expect(await readdir(join(room.cacheDir, 'probes'))).toHaveLength(1)
  expect(await room.engine('tcg').probe()).toEqual(probe)
  expect(await room.traces()).toEqual([room.spec.id])
})

test('hardware virtualisation works, or the probe says in words why not', async () => {
  await using room = await openRoom()
  const probe = await room.engine('kvm').probe()
  expect(probe.works ? 'works' : probe.reason).toMatch(
    /^works$|^\/dev\/kvm does not exist|^\/dev\/kvm is there|^\/dev\/kvm exists but (a guest never reached its init|no guest can be started)/,
  )
  expect(await room.traces()).toEqual([room.spec.id])
})

test.runIf(asRoot)(
  'a VMM is confined: own uid, own namespaces, no capabilities, sees its folder and no disk of the host',
  async () => {
    await using room = await openRoom()
    await using streams = await room.listen()
    const journaled: ProcessIdentity[] = []
    const vmm = await room.engine('tcg').create(room.spec, async (identity) => void journaled.push(identity))
    const { pid } = vmm.identity
    try {
      expect(journaled).toEqual([vmm.identity])
      expect((await readlink(`/proc/${pid}/exe`)).endsWith('qemu-system-x86_64')).toBe(true)
      await streams.connected

      const uid = String(room.spec.uid)
      expect(await statusOf(pid, 'Uid')).toEqual([uid, uid, uid, uid])
      expect(await statusOf(pid, 'Groups')).toEqual([''])
      expect(await statusOf(pid, 'CapBnd')).toEqual(['0000000000000000'])
      expect(await statusOf(pid, 'NoNewPrivs')).toEqual(['1'])
      expect(await statusOf(pid, 'Seccomp')).toEqual(['2'])
      const kinds = ['net', 'pid', 'mnt', 'ipc', 'uts', 'user', 'cgroup']
      const shared = await Promise.all(
        kinds.map(
          async (kind) => (await readlink(`/proc/${pid}/ns/${kind}`)) === (await readlink(`/proc/self/ns/${kind}`)),
        ),
      )
      expect(shared).toEqual(kinds.map(() => false))
      expect((await readFile(`/proc/${pid}/net/dev`, 'utf8')).match(/^ *\w+:/gm)).toEqual(['    lo:'])

      const root = `/proc/${pid}/root`
      expect((await readdir(root)).filter((name) => !name.startsWith('lib')).toSorted()).toEqual([
        'dev',
        'etc',
        'proc',
        'usr',
        'vm',
      ])
      expect((await readdir(join(root, 'vm'))).toSorted()).toEqual(['control.sock', 'egress.sock', 'qmp.sock'])
      expect((await readdir(join(root, 'dev'))).filter((name) => /^(kvm|vd|sd|nvme|mem)/.test(name))).toEqual([])
      expect(await readFile(`/proc/${pid}/environ`, 'utf8')).not.toMatch(/HOME|KEY|TOKEN/)
      const open = await Promise.all(
        (await readdir(`/proc/${pid}/fd`)).map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')),
      )
      expect(open).toContain(join(room.spec.diskDir, 'scratch.qcow2'))
      expect(open.filter((target) => target.startsWith('pipe:'))).toEqual([])
    } finally {
      await vmm.kill()
    }
    expect(await room.traces()).toEqual([room.spec.id])
  },
)

test('a guest boots to its agent; killing QEMU is told, and nothing is left', async () => {
  await using room = await openRoom()
  await using streams = await room.listen()
  const vmm = await room.engine('tcg').create(room.spec, async () => {})
  await Promise.all([vmm.guestUp, streams.connected])
  expect(await vmm.consoleTail()).toContain('vivarium-init: starting the agent')
  process.kill(vmm.identity.pid, 'SIGKILL')
  expect(await vmm.exited).toMatch(/^QEMU ended: killed by SIGKILL/)
  await vmm.kill()
  expect(await room.traces()).toEqual([room.spec.id])
})

test('a machine outlives its orchestrator, is found again, and is wholly removed', async () => {
  await using room = await openRoom()
  await using streams = await room.listen()
  const left = await execa(process.execPath, [START_AND_LEAVE, JSON.stringify(room.spec)], { reject: false })
  expect(left.signal).toBe('SIGKILL')
  const identity: ProcessIdentity = JSON.parse(left.stdout)
  await streams.connected

  const engine = room.engine('tcg')
  expect(await engine.adopt(room.spec, { ...identity, startTime: identity.startTime + 1 })).toBeUndefined()
  expect(await engine.adopt({ ...room.spec, id: 'vm_111111111111' }, identity)).toBeUndefined()
  const vmm = await engine.adopt(room.spec, identity)
  expect(vmm?.identity).toEqual(identity)
  await expect.poll(async () => vmm?.consoleTail(), { timeout: 120_000 }).toContain('vivarium-init')
  await vmm?.kill()
  expect(await vmm?.exited).toBe('QEMU ended: it was destroyed')
  expect(await engine.adopt(room.spec, identity)).toBeUndefined()
  expect(await room.traces()).toEqual([room.spec.id])
})

test('a guest that cannot start says why on its console, and the machine ends by itself', async () => {
  await using room = await openRoom()
  await using streams = await room.listen()
  // Its scratch disk is no file system: the kernel's own binary will do.
  const vmm = await room.engine('tcg').create({ ...room.spec, scratchBase: room.spec.image.kernel }, async () => {})
  expect(await vmm.exited).toBe('QEMU ended: the guest powered itself off')
  expect(await vmm.consoleTail()).toMatch(/vivarium-init: failed: .*scratch/)
  await vmm.kill()
  await streams.connected
  expect(await room.traces()).toEqual([room.spec.id])
})

test('QEMU that cannot start is reported with its own words', async () => {
  await using room = await openRoom()
  const spec = { ...room.spec, memoryMib: 1024 * 1024 * 1024 }
  await expect(room.engine('tcg').create(spec, async () => {})).rejects.toMatchObject({
    code: 'engine_failed',
    message: expect.stringMatching(/QEMU did not start: .*(memory|size)/i),
  })
  expect(await room.traces()).toEqual([room.spec.id])
})

test.runIf(asRoot)('the monitor of a machine is closed to other users of the host', async () => {
  await using room = await openRoom()
  await using streams = await room.listen()
  const vmm = await room.engine('tcg').create(room.spec, async () => {})
  try {
    const script = `require('net').connect(${JSON.stringify(join(room.spec.runDir, 'qmp.sock'))}).on('error', (e) => console.log(e.code))`
    const stranger = await execa(process.execPath, ['-e', script], { uid: 65_534, gid: 65_534, timeout: 20_000 })
    expect(stranger.stdout).toBe('EACCES')
    const socket = connect(join(room.spec.runDir, 'qmp.sock'))
    await once(socket, 'connect')
    socket.destroy()
  } finally {
    await vmm.kill()
    await streams.connected
  }
})
