import { open } from 'node:fs/promises'

const CLUSTER_BITS = 16
const CLUSTER = 1 << CLUSTER_BITS
const SECTOR = 512
const HEADER_BYTES = 104
/** References are counted in 16 bits. */
const REFCOUNT_ORDER = 4
/** An L2 table is one cluster of 8-byte entries, each for one cluster of the disk. */
const BYTES_PER_L2_TABLE = (CLUSTER / 8) * CLUSTER

/**
 * Makes an empty qcow2 disk of `size` bytes (up to 4 TiB, rounded up to whole sectors), version 3 of QEMU's docs/interop/qcow2.txt.
 * It names no backing file: who opens it says what it lies over, so a disk never leads QEMU to a path. A process less
 * than with qemu-img, on the way of every start. Fails if `path` exists.
 */
export async function createQcow2(path: string, size: number): Promise<void> {
  const bytes = Math.ceil(size / SECTOR) * SECTOR
  const l1Entries = Math.max(1, Math.ceil(bytes / BYTES_PER_L2_TABLE))
  if (l1Entries * 8 > CLUSTER) throw new RangeError(`A disk of ${size} bytes is too large.`)
  // One cluster each: header, table of refcount blocks, refcount block, L1 table. The last one stays zero.
  const [refcountTable, refcountBlock, l1Table, clusters] = [1, 2, 3, 4]
  const image = Buffer.alloc(refcountBlock * CLUSTER + clusters * 2)
  image.write('QFI\xfb', 'latin1')
  image.writeUInt32BE(3, 4)
  image.writeUInt32BE(CLUSTER_BITS, 20)
  image.writeBigUInt64BE(BigInt(bytes), 24)
  image.writeUInt32BE(l1Entries, 36)
  image.writeUInt32BE(l1Table * CLUSTER, 44)
  image.writeUInt32BE(refcountTable * CLUSTER, 52)
  image.writeUInt32BE(1, 56)
  image.writeUInt32BE(REFCOUNT_ORDER, 96)
  image.writeUInt32BE(HEADER_BYTES, 100)
  image.writeUInt32BE(refcountBlock * CLUSTER, refcountTable * CLUSTER + 4)
  for (let cluster = 0; cluster < clusters; cluster++) image.writeUInt16BE(1, refcountBlock * CLUSTER + cluster * 2)
  await using file = await open(path, 'wx', 0o600)
  await file.write(image)
  await file.truncate(clusters * CLUSTER)
}
