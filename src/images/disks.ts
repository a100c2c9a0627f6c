import { rm, truncate, writeFile } from 'node:fs/promises'
import { SOURCE_DATE_EPOCH } from './recipe.ts'
import { run } from './run.ts'

const BLOCK = 4096
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
  const inodes = Number((await run('du', ['--inodes', '-s', root], options)).split('\t')[0])
  const kib = Number((await run('du', ['-s', '-k', root], options)).split('\t')[0])
  const inodeCount = inodes + 256
  const bytes = Math.ceil((kib * 1024 * 1.03 + inodeCount * 256 + 16 * 1024 * 1024) / BLOCK) * BLOCK
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
}

/**
 * Makes an empty, sparse ext4 disk of `sizeMib` for what a machine writes. Everything is laid out now, so that no kernel
 * thread finishes the job in every guest later; no journal, because the disk never outlives its machine.
 */
export async function makeScratchDisk(path: string, sizeMib: number): Promise<void> {
  await writeFile(path, '')
  await truncate(path, sizeMib * 1024 * 1024)
  await run(
    'mke2fs',
    ['-q', '-F', '-t', 'ext4', '-b', String(BLOCK), '-m', '0', '-L', 'scratch', '-U', SCRATCH_UUID]
      .concat(['-O', '^has_journal,^orphan_file,^resize_inode,^metadata_csum,uninit_bg'])
      .concat(['-E', `lazy_itable_init=0,hash_seed=${SCRATCH_UUID},root_owner=0:0`, path]),
    { signal: undefined },
  )
}
