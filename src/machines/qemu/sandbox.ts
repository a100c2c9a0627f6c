import { lstat, readlink } from 'node:fs/promises'

/** Where the machine's run folder appears to the VMM. */
export const SANDBOX_RUN_DIR = '/vm'

/** Device nodes of the host to be seen in the sandbox: path inside → path outside. */
export type SandboxDevices = Readonly<Record<string, string>>

/**
 * Arguments of bubblewrap (0.8 or later) up to the program to run. The VMM gets namespaces of its own (no network, no
 * other processes), sees the host's libraries read-only, its run folder and nothing else, and has no capabilities.
 * Disks and images come as open files, so their folders are not even visible, and may be closed to the VMM's uid.
 *
 * The VMM is process 1 of its namespace: when it ends, the kernel ends whatever it started. It outlives the
 * orchestrator unless `dieWithParent`.
 */
export async function sandboxArgs(options: {
  runDir: string
  devices: SandboxDevices
  infoFd: number
  dieWithParent: boolean
}): Promise<string[]> {
  const args = [
    ['--unshare-all', '--unshare-user', '--disable-userns', '--cap-drop', 'ALL'],
    ['--new-session', '--as-pid-1', '--clearenv', '--hostname', 'vmm'],
    options.dieWithParent ? ['--die-with-parent'] : [],
    ['--ro-bind', '/usr', '/usr'],
    ...(await Promise.all(['/lib', '/lib32', '/lib64', '/libx32'].map(libraryFolder))),
    ...['/etc/ld.so.cache', '/etc/ld.so.conf', '/etc/ld.so.conf.d'].map((path) => ['--ro-bind-try', path, path]),
    ['--proc', '/proc', '--dev', '/dev'],
    ...Object.entries(options.devices).map(([inside, outside]) => ['--dev-bind', outside, inside]),
    ['--bind', options.runDir, SANDBOX_RUN_DIR, '--chdir', SANDBOX_RUN_DIR],
    ['--info-fd', String(options.infoFd), '--'],
  ]
  return args.flat()
}

/** `/lib` and its kind: links into /usr on today's distributions, folders on older ones. */
async function libraryFolder(path: string): Promise<string[]> {
  const entry = await lstat(path).catch(() => undefined) // not every host has all of them
  if (entry?.isSymbolicLink()) return ['--symlink', await readlink(path), path]
  return entry?.isDirectory() ? ['--ro-bind', path, path] : []
}
