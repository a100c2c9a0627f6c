import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { qemuArgs, type Accelerator } from './args.ts'
import type { Qemu } from './host.ts'

/** Counts up when a saved machine's files change their meaning. */
const FORMAT = '1'

/** Everything of engine and host that a saved machine depends on, by name and in words for people. */
export async function describeCompatibility(accel: Accelerator, qemu: Qemu): Promise<Record<string, string>> {
  const { model, features } = parseCpuInfo(await readFile('/proc/cpuinfo', 'utf8'))
  // Software emulation has a processor of its own, but counts time as the host's does.
  const common = { format: FORMAT, vmm: `QEMU ${qemu.version.text}`, accelerator: accel, processor: model }
  return accel === 'kvm'
    ? { ...common, features: digest(features), hostKernel: `Linux ${release()}`, devices: devicesOf(accel, qemu) }
    : { ...common, devices: devicesOf(accel, qemu) }
}

/** Name and features of the first processor in the text of /proc/cpuinfo; the order in which they stand does not matter. */
export function parseCpuInfo(text: string): { model: string; features: string } {
  const field = (name: string) => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(text)?.[1]?.trim() ?? 'unknown'
  return { model: field('model name'), features: field('flags').split(/\s+/).toSorted().join(' ') }
}

/** A digest of the arguments that make the machine what it is; what differs from one to the next stands at zero. */
function devicesOf(accel: Accelerator, { version }: Qemu): string {
  const args = qemuArgs({
    id: '',
    accel,
    version: version.number,
    memoryMib: 0,
    memory: { kind: 'anonymous' },
    vcpus: 0,
    disks: { rootFd: 0, baseFd: 0, layerFd: null, scratchFd: 0 },
    boot: { kernelFd: 0, initrdFd: 0, kernelArgs: [] },
  })
  return digest(JSON.stringify(args))
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}
