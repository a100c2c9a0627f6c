import { rm, truncate, writeFile } from 'node:fs/promises'
import { SOURCE_DATE_EPOCH } from './recipe.ts'
import { run } from './run.ts'

const BLOCK = 4096
const ROOT_INODE = 2
const FIRST_ORDINARY_INODE = 11
/** Any constant serves: the disks of one machine must only differ from each other. */
const ROOT_UUID = '6b1f5c0e-3a52-4c1e-9f0b-7d2a54a1c001'
const SCRATCH_UUID = '6b1f5c0e-3a52-4c1e-9f0b-7d2a54a1c002'

/**
 * Makes a disk of the folder `root`: ext4 without a journal, since it is never written again. The same files give the same
 * bytes (on the same kind of file system: the order in which a folder is read is its file system's).
 */
export async function makeRootDisk(root: string, path: string, signal: AbortSignal | undefined): Promise<void> {
  const options = { signal }
  const date = `@${SOURCE_DATE_EPOCH}`
  await run(
    'find',
    [root, '-xdev', '-newermt', date, '-exec', 'touch', '--no-dereference', `--date=${date}`, '{}', '+'],
    options,
  )
  const { inodes, blocks } = await measure(root, signal)
  const inodeCount = inodes + 256
  const bytes = Math.ceil(blocks * 1.03 + (inodeCount * 256) / BLOCK + 4096) * BLOCK
  await rm(path, { force: true })
  await writeFile(path, '')
  await truncate(path, bytes)
  const extended = `lazy_itable_init=0,hash_seed=${ROOT_UUID},root_owner=0:0,nodiscard`
  await run(
    'mke2fs',
    ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK), '-m', '0', '-N', String(inodeCount)]
      .concat(['-O', '^has_journal,^orphan_file,^resize_inode,^metadata_csum', '-U', ROOT_UUID, '-E', extended])
      .concat(['-L', 'root', '-d', root, path]),
    options,
  )
  await resetTimes(path, inodeCount, signal)
}

/** Inodes and blocks that the files below `root` will need, by their sizes: what they take on this host's disk varies. */
async function measure(root: string, signal: AbortSignal | undefined): Promise<{ inodes: number; blocks: number }> {
  const listing = await run('find', [root, '-xdev', '-printf', '%i %y %s\\n'], { signal })
  // Hard links share an inode and are listed alike.
  const files = [...new Set(listing.split('\n'))].map((line) => line.split(' '))
  const blocks = files.map(([, type, size]) => (type === 'f' ? Math.ceil(Number(size) / BLOCK) : 1))
  return { inodes: files.length, blocks: blocks.reduce((sum, count) => sum + count, 0) }
}

/**
 * mke2fs copies from each file when it was last read and when its inode last changed: the moment of this build, which nobody can
 * set on a mounted file system. Written into the finished disk instead.
 */
async function resetTimes(path: string, inodeCount: number, signal: AbortSignal | undefined): Promise<void> {
  // mke2fs rounds the number of inodes up to whole blocks of its tables; those beyond the last file stay zero.
  const ordinary = Array.from({ length: inodeCount - FIRST_ORDINARY_INODE + 1 }, (_, at) => at + FIRST_ORDINARY_INODE)
  const commands = [ROOT_INODE, ...ordinary].flatMap((inode) =>
    ['atime', 'ctime'].flatMap((field) => [
      `set_inode_field <${inode}> ${field} @${SOURCE_DATE_EPOCH}`,
      `set_inode_field <${inode}> ${field}_extra 0`,
    ]),
  )
  await run('debugfs', ['-w', path], { signal, input: `${commands.join('\n')}\n` })
}

/** In MiB. A commit writes what changed in folders and inodes within seconds. */
const JOURNAL_MIB = 16

/**
 * Room that is left where the agent's user has filled the workspace: for root, and for what is written through the overlay, which the
 * kernel does as root, such as the guest agent's own files. A machine that is full can still be worked with, and its work brought out.
 */
const RESERVE_MIB = 64

/**
 * Makes an empty, sparse ext4 disk of `sizeMib` for what a machine writes. Everything is laid out now, so that no kernel
 * thread finishes the job in every guest later. It has a journal: the commits of that also make QEMU write out its own tables, and so all that
 * is left of a machine whose QEMU dies is a disk with everything but the last seconds.
 */
export async function makeScratchDisk(path: string, sizeMib: number): Promise<void> {
  await writeFile(path, '')
  await truncate(path, sizeMib * 1024 * 1024)
  await run(
    'mke2fs',
    ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK), '-m', String((100 * RESERVE_MIB) / sizeMib)]
      .concat(['-L', 'scratch', '-U', SCRATCH_UUID])
      .concat(['-O', '^orphan_file,^resize_inode,^metadata_csum,uninit_bg', '-J', `size=${JOURNAL_MIB}`])
      .concat(['-E', `lazy_itable_init=0,lazy_journal_init=1,hash_seed=${SCRATCH_UUID},root_owner=0:0`, path]),
    { signal: undefined },
  )
}
