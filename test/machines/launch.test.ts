import { chown, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { expect, onTestFinished, test } from 'vitest'
import { makeReachable } from '../../src/machines/folders.ts'
import { launch } from '../../src/machines/qemu/launch.ts'
import { killMachineProcesses } from '../../src/machines/kill.ts'
import { canLeaseUids, leaseUid } from '../../src/machines/uid-lease.ts'

const MIB = 1024 * 1024

test('what a program prints without end does not fill the disk', async () => {
  const base = await mkdtemp(join(tmpdir(), 'launch-'))
  const runDir = join(base, 'run')
  const logPath = join(base, 'vmm.log')
  const uid = (await canLeaseUids()) ? await leaseUid(new Set()) : undefined
  await makeReachable(base)
  await mkdir(runDir)
  await execa('mkfifo', [join(runDir, 'start')])
  if (uid !== undefined) for (const path of [runDir, join(runDir, 'start')]) await chown(path, uid, uid)
  const { identity, ended } = await launch({
    program: '/usr/bin/sh',
    // Ends when it can write no more.
    args: ['-c', 'read -r start < /vm/start; exec yes "virtio-serial-bus: Unexpected port id"'],
    files: [],
    runDir,
    logPath,
    devices: {},
    uid,
    gid: uid,
    dieWithParent: true,
    maxFileBytes: MIB,
  })
  onTestFinished(async () => {
    await killMachineProcesses({ id: 'vm_launchtest00', runDir, identity, uid })
    await rm(base, { recursive: true })
  })
  await writeFile(join(runDir, 'start'), 'now\n')
  await ended
  expect((await stat(logPath)).size).toBe(MIB)
})
