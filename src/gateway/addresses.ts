import { BlockList, isIP, isIPv6 } from 'node:net'
import { networkInterfaces } from 'node:os'

/**
 * Addresses that a guest must not reach by a public name: they belong to this host, its network or its cloud.
 * From the special-purpose registries of IANA (RFC 6890 and successors); cloud metadata lies in 169.254.0.0/16, fd00::/8
 * and 100.64.0.0/10.
 */
const PRIVATE_V4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
]

/** Azure's metadata and DNS stand at a public address. */
const METADATA_V4 = ['168.63.129.16/32']

/** Only 2000::/3 is given out for the public internet; these parts of it are not. */
const PRIVATE_V6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']

/** Forms that carry an IPv4 address in their last 32 bits, which decides about them: mapped (RFC 4291), NAT64 (RFC 6052). */
const CARRIERS_V6 = ['::ffff:0:0/96', '64:ff9b::/96']

function blockList(ranges: string[]): BlockList {
  const list = new BlockList()
  for (const range of ranges) {
    const [net = '', prefix] = range.split('/')
    list.addSubnet(net, Number(prefix), isIPv6(net) ? 'ipv6' : 'ipv4')
  }
  return list
}

const privateV4 = blockList([...PRIVATE_V4, ...METADATA_V4])
const privateV6 = blockList(PRIVATE_V6)
const publicV6 = blockList(['2000::/3'])
const carriersV6 = blockList(CARRIERS_V6)

/** Whether an IP address is one of the public internet. What is not an IP address in canonical notation is not. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address)
  if (family === 4) return !privateV4.check(address, 'ipv4')
  if (family === 0 || address.includes('%')) return false
  if (carriersV6.check(address, 'ipv6')) return isPublicAddress(embeddedV4(address))
  return publicV6.check(address, 'ipv6') && !privateV6.check(address, 'ipv6') && !isIsatap(address)
}

/** An interface identifier of ISATAP (RFC 5214): whatever the prefix, a router sends it on to the IPv4 address in it. */
function isIsatap(address: string): boolean {
  const [, , , , marker, kind] = groupsOf(address)
  return kind === 0x5efe && (marker === 0 || marker === 0x200)
}

/**
 * Whether an IP address is one of this host's interfaces now. A public one is not private, but from here it leads past the
 * firewall that keeps the internet from this host's services.
 */
export function isOwnAddress(address: string): boolean {
  const isCarrier = isIPv6(address) && !address.includes('%') && carriersV6.check(address, 'ipv6')
  const canonical = isCarrier ? embeddedV4(address) : canonicalAddress(address)
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return own.some((each) => canonicalAddress(each.address) === canonical)
}

/** The one spelling of an address under which two can be compared; IPv4 in an IPv6 mapping becomes IPv4. */
export function canonicalAddress(address: string): string {
  if (!isIPv6(address) || address.includes('%')) return address
  const canonical = new URL(`http://[${address}]`).hostname.slice(1, -1)
  return canonical.startsWith('::ffff:') ? embeddedV4(canonical) : canonical
}

/** The last 32 bits of an IPv6 address as an IPv4 one. */
function embeddedV4(address: string): string {
  const [high = 0, low = 0] = groupsOf(address).slice(-2)
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** The eight numbers of an IPv6 address. */
function groupsOf(address: string): number[] {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const numbers = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  if (tail === undefined) return numbers(head)
  const [left, right] = [numbers(head), numbers(tail)]
  return [...left, ...Array.from({ length: 8 - left.length - right.length }, () => 0), ...right]
}
