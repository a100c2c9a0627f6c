/** An attempt to get out of a machine, and what must become of it. The canary must hear of none. */
export interface Attack {
  name: string
  /** What the guest is told. */
  outcome: RegExp
  /** What the task's log says of it; nothing where it can't even reach the gateway. */
  log?: { host: string; port?: number; rule: string | RegExp }
}

/** Ports of this host: one that the policy names, at `NAMED`, and one that it does not. */
export interface Ports {
  port: number
  otherPort: number
}

/** Where cloud machines find their credentials. */
export const METADATA = ['169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '168.63.129.16']

/** How this host's loopback can be written. */
export const LOOPBACK = [
  '127.0.0.1',
  '2130706433',
  '0177.0.0.1',
  '017700000001',
  '0x7f000001',
  '0x7f.1',
  '127.1',
  '127.0.0.01',
  '127.0.0.1.',
  '0',
  '0.0.0.0',
  '[::1]',
  '[::]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[64:ff9b::7f00:1]',
  '[::127.0.0.1]',
  'localhost',
  'localhost.',
  'LOCALHOST',
  'a.localhost',
  '127.0.0.9',
]

/** Names that the policy allows and the resolver leads astray, and where to. */
export const TRAPS: Record<string, string[]> = {
  'localtest.trap.example': ['127.0.0.1'],
  'six.trap.example': ['::1'],
  'mapped.trap.example': ['::ffff:127.0.0.1'],
  'zero.trap.example': ['0.0.0.0'],
  'nat64.trap.example': ['64:ff9b::7f00:1'],
  'private.trap.example': ['10.0.0.1', '192.168.0.1'],
  'metadata.trap.example': ['169.254.169.254'],
  'metadata-six.trap.example': ['fd00:ec2::254'],
  'azure.trap.example': ['168.63.129.16'],
  'metadata.google.internal': ['169.254.169.254'],
}
