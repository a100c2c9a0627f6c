/** An entry of an archive; folders must stand before what they hold. */
export type CpioEntry =
  | { type: 'folder'; path: string }
  | { type: 'file'; path: string; mode: number; content: Buffer }
  | { type: 'link'; path: string; target: string }
  | { type: 'character-device'; path: string; major: number; minor: number }

const FILE_TYPE = { folder: 0o040000, file: 0o100000, link: 0o120000, 'character-device': 0o020000 } as const

/**
 * An archive in the format of the kernel's initramfs ("newc", Documentation/driver-api/early-userspace/buffer-format.rst):
 * owned by root, dated at the epoch, so that the same entries give the same bytes.
 */
export function cpio(entries: CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => record(entry, index + 1))
  const trailer = header({ inode: 0, mode: 0, links: 1, size: 0, major: 0, minor: 0, name: 'TRAILER!!!' })
  return Buffer.concat([...parts, trailer])
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const content = entry.type === 'file' ? entry.content : Buffer.from(entry.type === 'link' ? entry.target : '')
  const permissions = entry.type === 'file' ? entry.mode : entry.type === 'link' ? 0o777 : 0o755
  const device = entry.type === 'character-device' ? entry : { major: 0, minor: 0 }
  const head = header({
    inode,
    mode: FILE_TYPE[entry.type] | permissions,
    links: entry.type === 'folder' ? 2 : 1,
    size: content.length,
    major: device.major,
    minor: device.minor,
    name: entry.path,
  })
  return [head, content, padding(content.length)]
}

interface Header {
  inode: number
  mode: number
  links: number
  size: number
  major: number
  minor: number
  name: string
}

function header({ inode, mode, links, size, major, minor, name }: Header): Buffer {
  const nameBytes = Buffer.from(`${name}\0`)
  // inode, mode, uid, gid, links, mtime, size, device (major, minor), special device (major, minor), name length, checksum
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, nameBytes.length, 0]
  const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`)
  return Buffer.concat([head, nameBytes, padding(head.length + nameBytes.length)])
}

/** Header and content each end at a multiple of four bytes. */
function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4)
}
