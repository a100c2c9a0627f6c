import { chown, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import type { SandboxDevices } from './sandbox.ts'

export const KVM = '/dev/kvm'
const READ_WRITE = 6

/**
 * How a VMM under a leased uid comes to /dev/kvm: by the group that may use it (Debian: `kvm`), or, where only root
 * may, by a device node of its own in the machine's run folder.
 */
export async function kvmAccess(
  runDir: string,
  uid: number | undefined,
): Promise<{ gid: number | undefined; devices: SandboxDevices }> {
  const device = { [KVM]: KVM }
  if (uid === undefined) return { gid: undefined, devices: device }
  const { mode, gid, rdev } = await stat(KVM)
  if ((mode & READ_WRITE) === READ_WRITE) return { gid: uid, devices: device }
  if (((mode >> 3) & READ_WRITE) === READ_WRITE) return { gid, devices: device }
  const node = join(runDir, 'kvm')
  // Linux's classic split of a small device number: major in the second byte, minor in the first.
  await execa('mknod', ['-m', '600', node, 'c', String(rdev >> 8), String(rdev & 0xff)])
  await chown(node, uid, uid)
  return { gid: uid, devices: { [KVM]: node } }
}
