import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { VivariumError } from '../contracts/errors.ts'

/** A program that this host must have, and the Debian package that brings it. */
export interface HostTool {
  tool: string
  package: string
  /** What it is for, as the end of "needed to …". */
  why: string
  /** `image`: building the guest image; `machine`: running machines; `tests`: the test suite only. */
  use: 'image' | 'machine' | 'tests'
}

const QEMU: Record<string, HostTool> = {
  arm64: { tool: 'qemu-system-aarch64', package: 'qemu-system-arm', why: 'run machines', use: 'machine' },
  x64: { tool: 'qemu-system-x86_64', package: 'qemu-system-x86', why: 'run machines', use: 'machine' },
}

/** Every host tool for this processor, in the order in which they are needed. */
export function hostTools(arch: string = process.arch): HostTool[] {
  const qemu = QEMU[arch]
  return [
    { tool: 'mmdebstrap', package: 'mmdebstrap', why: 'build the guest image', use: 'image' },
    { tool: 'mke2fs', package: 'e2fsprogs', why: 'format disks', use: 'image' },
    { tool: 'debugfs', package: 'e2fsprogs', why: 'make disk images reproducible', use: 'image' },
    { tool: 'dpkg-deb', package: 'dpkg', why: 'unpack the guest kernel', use: 'image' },
    { tool: 'unshare', package: 'util-linux', why: 'contain the build', use: 'image' },
    { tool: 'setpriv', package: 'util-linux', why: 'contain the build', use: 'image' },
    ...(qemu === undefined ? [] : [qemu]),
    { tool: 'bwrap', package: 'bubblewrap', why: 'confine machines', use: 'machine' },
    { tool: 'prlimit', package: 'util-linux', why: 'confine machines', use: 'machine' },
    { tool: 'git', package: 'git', why: 'test changes and patches', use: 'tests' },
    { tool: 'socat', package: 'socat', why: 'test the guest agent outside a machine', use: 'tests' },
    { tool: 'cpio', package: 'cpio', why: 'test the initramfs', use: 'tests' },
    { tool: 'systemctl', package: 'systemd', why: 'test the service', use: 'tests' },
    { tool: 'chromium', package: 'chromium', why: 'test the dashboard', use: 'tests' },
  ]
}

/** Those of `tools` that are not found in `path` or in the folders of system tools, which root's PATH may lack. */
export function missingTools(tools: HostTool[], path = process.env['PATH'] ?? ''): HostTool[] {
  const folders = [...path.split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']
  return tools.filter(({ tool }) => !folders.some((folder) => folder !== '' && isExecutable(join(folder, tool))))
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false // absent or not executable is the answer, not an error
  }
}

/** The command that installs the packages of these tools. */
export function installCommand(tools: HostTool[]): string {
  const packages = [...new Set(tools.map((tool) => tool.package))].toSorted()
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`
}

/** Throws `setup_required` with the command that mends it when a tool for `use` is missing. */
export function requireTools(use: HostTool['use']): void {
  const missing = missingTools(hostTools().filter((tool) => tool.use === use))
  if (missing.length === 0) return
  const names = missing.map((tool) => tool.tool).join(', ')
  throw new VivariumError('setup_required', `This host lacks ${names}. Run: ${installCommand(missing)}`)
}
