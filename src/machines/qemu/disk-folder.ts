/** Names in a machine's disk folder; a saved machine is all of them but the log. */
export const FILES = {
  /** What the machine writes. */
  scratch: 'scratch.qcow2',
  /** What another machine had written, from which this one started. */
  layer: 'base.qcow2',
  /** RAM, where others map it. */
  memory: 'memory',
  /** Devices, and RAM where it is no file; there only when it is whole. */
  state: 'state',
  log: 'vmm.log',
} as const
