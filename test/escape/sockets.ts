import { METADATA, type Attack, type Ports } from './attack.ts'

/** An address of the public internet. Nothing is ever sent there: a guest has no way, and the gateway is not asked for it. */
const PUBLIC = '93.184.215.14'

/** Ways past the gateway: there is none. Python expressions of `guest/sockets.py`. */
export function sockets({ port }: Ports): (Attack & { python: string })[] {
  const unreachable = /^OSError: .*(unreachable|not permitted|not supported|Cannot assign|timed out|refused)/i
  const unresolved = /^OSError: .*(resolution|not known|No address)/
  const refused = /^OSError: .*refused/
  const attack = (name: string, python: string, outcome = unreachable) => ({ name, python, outcome })
  return [
    attack('TCP to an address', `tcp("${PUBLIC}", 443)`),
    attack('UDP to an address', `udp("${PUBLIC}", 443)`),
    attack('TCP to an IPv6 address', 'tcp("2606:4700:4700::1111", 443)'),
    attack('UDP to an IPv6 address', 'udp("2606:4700:4700::1111", 443)'),
    attack('TCP to an address of the link', 'tcp("fe80::1%lo", 443)'),
    attack('TCP to where other VMMs have their host', 'tcp("10.0.2.2", 80)'),
    ...METADATA.map((address) => attack(`TCP to ${address}`, `tcp("${address}", 80)`)),
    attack('DNS over UDP', 'dns("8.8.8.8")'),
    attack('DNS over UDP where other VMMs have it', 'dns("10.0.2.3")'),
    attack('DNS over UDP to the guest itself', 'dns("127.0.0.1")', refused),
    attack('DNS over TCP', 'tcp("8.8.8.8", 53)'),
    attack('mDNS to everybody', 'udp("224.0.0.251", 5353)'),
    attack('UDP to everybody', 'udp("255.255.255.255", 9)'),
    attack('a look-up', 'lookup("example.com")', unresolved),
    attack('a look-up of a name that leads to loopback', 'lookup("localtest.trap.example")', unresolved),
    // What is the host's for a gateway is the guest's own for its kernel.
    ...['127.0.0.1', '2130706433', '0177.0.0.1', '0x7f000001', '127.1', '0.0.0.0', '127.0.0.2', 'localhost'].map(
      (host) => attack(`TCP to ${host}`, `tcp("${host}", ${port})`, refused),
    ),
    attack('TCP to ::1', `tcp("::1", ${port})`),
    attack('TCP to mapped loopback', `tcp("::ffff:127.0.0.1", ${port})`),
    attack('UDP to loopback', `udp("127.0.0.1", ${port})`, refused),
    attack('raw ICMP', `raw("${PUBLIC}", 1)`),
    attack('raw TCP', `raw("${PUBLIC}", 6)`),
    attack('an Ethernet frame', 'packet("eth0")', /^OSError: .*(No such device|not supported)/),
    attack('vsock to the host', 'vsock(1024)', /^OSError: /),
    attack('a route', 'run("ip route add default dev lo && ip route del default dev eth0")', /^OSError: /),
    attack('a network card of its own making', 'run("ip link add out type macvlan")', /^OSError: /),
    attack('a tunnel device', 'open("/dev/net/tun")', /^OSError: .*No such/),
    attack('a shared folder by 9p', 'run("mount -t 9p -o trans=virtio host /mnt")', /^OSError: /),
    attack('a shared folder by virtiofs', 'run("mount -t virtiofs host /mnt")', /^OSError: /),
    attack('network cards', 'names("/sys/class/net/*")', /^lo( sit0| ip6tnl0| tunl0)*$/),
    // Block devices, serial ports, random numbers (Virtual I/O Device, section 5).
    attack('virtio devices', 'contents("/sys/bus/virtio/devices/*/device")', /^0x0002 0x0003 0x0004$/),
    attack('serial ports', 'contents("/sys/class/virtio-ports/*/name")', /^vivarium\.control vivarium\.egress$/),
    attack('doors to a host in /dev', 'matching("/dev", "vhost|kvm|vfio|tun|tap|fuse|macvtap|uio")', /^$/),
  ]
}
