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
  memory: QemuMemory
  /** Null waits for the state of a saved machine: its guest has its kernel in memory already. */
  boot: { kernelFd: number; initrdFd: number; /** Added to the kernel's command line. */ kernelArgs: string[] } | null
  /** Null boots without disks and ports. */
  disks: QemuDisks | null
}

/** RAM that is QEMU's own, a file that keeps what the guest writes, or a file of which each written page is copied. */
export type QemuMemory =
  | { kind: 'anonymous' }
  | { kind: 'shared'; fd: number }
  | { kind: 'private'; fd: number; openReadOnly: boolean }

/** Root image and the layers of the scratch disk from the bottom up; only the last one is written. */
export interface QemuDisks {
  rootFd: number
  baseFd: number
  layerFd: number | null
  scratchFd: number
}

/** QEMU's arguments. The guest's processors stand still until `cont` is sent to the monitor. */
export function qemuArgs(config: QemuConfig): string[] {
  const args = [
    ['-name', `vivarium-${config.id}`, '-S'],
    // Nothing that is not listed here, no window, no reboot; a guest that stops is kept until its console has been read.
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-no-shutdown'],
    ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    // One name for RAM wherever it lies: a saved machine's memory is found by it.
    ['-M', 'q35,memory-backend=m0', ...acceleratorArgs(config.accel)],
    ['-object', memoryObject(config.memory, config.memoryMib)],
    ['-m', String(config.memoryMib), '-smp', String(config.vcpus)],
    config.boot === null ? ['-incoming', 'defer'] : bootArgs(config.boot),
    ['-chardev', `ringbuf,id=console,size=${CONSOLE_BYTES}`, '-serial', 'chardev:console'],
    ['-qmp', `unix:${SANDBOX_RUN_DIR}/${SOCKETS.monitor},server=on,wait=off`],
    ['-object', 'rng-builtin,id=rng', '-device', 'virtio-rng-pci,rng=rng'],
    config.disks === null ? [] : [...diskArgs(config.disks), ...portArgs(config.version)],
  ]
  return args.flat()
}

/** Without `erms`: who finds it copies by an instruction that emulation carries out byte by byte (measured: 2.5 times as long). */
function acceleratorArgs(accel: Accelerator): string[] {
  return accel === 'kvm'
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max,erms=off']
}

function memoryObject(memory: QemuMemory, mib: number): string {
  if (memory.kind === 'anonymous') return `memory-backend-ram,id=m0,size=${mib}M`
  const file = `memory-backend-file,id=m0,size=${mib}M,mem-path=${fdPath(memory.fd)}`
  if (memory.kind === 'shared') return `${file},share=on`
  return `${file},share=off${memory.openReadOnly ? ',readonly=on,rom=off' : ''}`
}

/** `panic=-1`: a kernel panic reboots at once, which ends the machine (`-no-reboot`) instead of leaving it hanging. */
function bootArgs({ kernelFd, initrdFd, kernelArgs }: NonNullable<QemuConfig['boot']>): string[] {
  const commandLine = ['console=ttyS0', 'loglevel=4', 'panic=-1', 'reboot=t', ...kernelArgs].join(' ')
  return ['-kernel', fdPath(kernelFd), '-initrd', fdPath(initrdFd), '-append', commandLine]
}

/**
 * How a QEMU that waits is given a saved machine's state by an inherited descriptor: arguments, and the `uri` for the
 * monitor. Newer versions read files by `file:` only, which 9.0 has learned to take from a descriptor.
 */
export function incomingState([major]: QemuConfig['version'], fd: number): { args: string[]; uri: string } {
  return major < 9
    ? { args: [], uri: `fd:${fd}` }
    : { args: ['-add-fd', `fd=${fd},set=${fd}`], uri: `file:/dev/fdset/${fd}` }
}

/** Kernel, initrd and memory are opened by path only. The descriptor's own path works whatever folder the file lies in. */
function fdPath(fd: number): string {
  return `/proc/self/fd/${fd}`
}

/**
 * `vda` is the root image, `vdb` the scratch disk over its layers. Flushes are ignored: what the guest writes is on disk when
 * its machine was saved, and no earlier state of it is of any use.
 */
function diskArgs({ rootFd, baseFd, layerFd, scratchFd }: QemuDisks): string[] {
  const readOnly = { 'read-only': true }
  const cache = { discard: 'unmap', cache: { 'no-flush': true } }
  const file = (fd: number) => ({ driver: 'file', filename: `/dev/fdset/${fd}` })
  const raw = (fd: number) => ({ driver: 'raw', ...readOnly, file: { ...file(fd), ...readOnly } })
  const qcow2 = (fd: number, backing: string, options: object) => ({
    driver: 'qcow2',
    backing,
    ...options,
    file: { ...file(fd), ...options },
  })
  const nodes = [
    { 'node-name': 'root', ...raw(rootFd) },
    { 'node-name': 'scratch-base', ...raw(baseFd) },
    ...(layerFd === null ? [] : [{ 'node-name': 'scratch-layer', ...qcow2(layerFd, 'scratch-base', readOnly) }]),
    { 'node-name': 'scratch', ...qcow2(scratchFd, layerFd === null ? 'scratch-base' : 'scratch-layer', cache) },
  ]
  const fds = [rootFd, baseFd, ...(layerFd === null ? [] : [layerFd]), scratchFd]
  const args = [
    ...fds.map((fd) => ['-add-fd', `fd=${fd},set=${fd}`]),
    ...nodes.map((node) => ['-blockdev', JSON.stringify(node)]),
    ['-device', 'virtio-blk-pci,drive=root,serial=root'],
    // A write for which the host has no room waits in QEMU, which stops the guest (`QemuVmm` lets it go on). Other errors of the
    // host's disk go to the guest, which can still hand over its files.
    ['-device', 'virtio-blk-pci,drive=scratch,serial=scratch,werror=enospc,rerror=report'],
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
