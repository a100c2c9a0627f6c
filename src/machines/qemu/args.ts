import { PORT_NAMES } from '../../link/protocol.ts'
import { SANDBOX_RUN_DIR } from './sandbox.ts'

export type Accelerator = 'kvm' | 'tcg'

/** Sockets in a machine's run folder. */
export const SOCKETS = { control: 'control.sock', egress: 'egress.sock', monitor: 'qmp.sock' } as const

/** What QEMU keeps of the serial console; it must be a power of two. */
export const CONSOLE_BYTES = 64 * 1024

/** One QEMU command line. Files are file descriptors that QEMU inherits. */
export interface QemuConfig {
  id: string
  accel: Accelerator
  /** e.g. `[7, 2]`. */
  version: readonly [major: number, minor: number]
  memoryMib: number
  vcpus: number
  kernelFd: number
  initrdFd: number
  /** Root image (read-only), scratch base (read-only) and the machine's own qcow2 (read-write); null boots without disks and ports. */
  disks: { rootFd: number; baseFd: number; scratchFd: number } | null
  /** Added to the kernel's command line. */
  kernelArgs: string[]
}

/** QEMU's arguments. The guest's processors stand still until `cont` is sent to the monitor. */
export function qemuArgs(config: QemuConfig): string[] {
  const args = [
    ['-name', `vivarium-${config.id}`, '-S'],
    // Nothing that is not listed here, no window, no reboot; a guest that stops is kept until its console has been read.
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-no-shutdown'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ['-M', 'q35', ...acceleratorArgs(config.accel)],
    ['-m', String(config.memoryMib), '-smp', String(config.vcpus)],
    ['-kernel', fdPath(config.kernelFd), '-initrd', fdPath(config.initrdFd), '-append', kernelCommandLine(config)],
    ['-chardev', `ringbuf,id=console,size=${CONSOLE_BYTES}`, '-serial', 'chardev:console'],
    ['-qmp', `unix:${SANDBOX_RUN_DIR}/${SOCKETS.monitor},server=on,wait=off`],
    ['-object', 'rng-builtin,id=rng', '-device', 'virtio-rng-pci,rng=rng'],
    config.disks === null ? [] : [...diskArgs(config.disks), ...portArgs(config.version)],
  ]
  return args.flat()
}

function acceleratorArgs(accel: Accelerator): string[] {
  return accel === 'kvm' ? ['-accel', 'kvm', '-cpu', 'host'] : ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max']
}

/** `panic=-1`: a kernel panic reboots at once, which ends the machine (`-no-reboot`) instead of leaving it hanging. */
function kernelCommandLine(config: QemuConfig): string {
  return ['console=ttyS0', 'loglevel=4', 'panic=-1', 'reboot=t', ...config.kernelArgs].join(' ')
}

/** Kernel and initrd are opened by path only. The descriptor's own path works whatever folder the file lies in. */
function fdPath(fd: number): string {
  return `/proc/self/fd/${fd}`
}

/**
 * `vda` is the root image, `vdb` the scratch disk over its empty base. Flushes are ignored: no disk outlives its machine, so there
 * is nothing to protect from a power cut.
 */
function diskArgs({ rootFd, baseFd, scratchFd }: NonNullable<QemuConfig['disks']>): string[] {
  const cache = { 'no-flush': true }
  const readOnly = (fd: number, node: string) =>
    JSON.stringify({
      'node-name': node,
      driver: 'raw',
      'read-only': true,
      file: { driver: 'file', filename: `/dev/fdset/${fd}`, 'read-only': true },
    })
  const scratch = JSON.stringify({
    'node-name': 'scratch',
    driver: 'qcow2',
    backing: 'scratch-base',
    discard: 'unmap',
    cache,
    file: { driver: 'file', filename: `/dev/fdset/${scratchFd}`, discard: 'unmap', cache },
  })
  const args = [
    ...[rootFd, baseFd, scratchFd].map((fd) => ['-add-fd', `fd=${fd},set=${fd}`]),
    ['-blockdev', readOnly(rootFd, 'root')],
    ['-blockdev', readOnly(baseFd, 'scratch-base')],
    ['-blockdev', scratch],
    ['-device', 'virtio-blk-pci,drive=root,serial=root'],
    // An error of the host's disk, most likely a full one, goes to the guest, which can still hand over its files.
    ['-device', 'virtio-blk-pci,drive=scratch,serial=scratch,werror=report,rerror=report'],
  ]
  return args.flat()
}

/** The guest link's two streams. QEMU dials the host and, when the host went away, dials again. */
function portArgs([major, minor]: QemuConfig['version']): string[] {
  const reconnect = major > 9 || (major === 9 && minor >= 2) ? 'reconnect-ms=200' : 'reconnect=1'
  const port = (name: keyof typeof PORT_NAMES) => [
    '-chardev',
    `socket,id=${name},path=${SANDBOX_RUN_DIR}/${SOCKETS[name]},${reconnect}`,
    '-device',
    `virtserialport,bus=ports.0,chardev=${name},id=${name},name=${PORT_NAMES[name]}`,
  ]
  return ['-device', 'virtio-serial-pci,id=ports,max_ports=4', ...port('control'), ...port('egress')]
}
