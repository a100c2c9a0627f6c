import { createReadStream } from 'node:fs'
import { lstat, mkdir, readlink, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { execa } from 'execa'
import { pack, type Pack } from 'tar-stream'
import { VivariumError } from '../contracts/errors.ts'
import { ownTag, WORKSPACE_PREFIX } from '../files/owner.ts'

/**
 * A folder as a tar stream: regular files and symlinks, `.gitignore` honoured whether or not the folder is a repository,
 * `.git` left out (its config may hold credentials). Submodules and repositories inside it are left out and told to
 * `onLeftOut`. Rejects with `invalid_request` where there is no such folder.
 */
export async function packWorkspace(folder: string, onLeftOut: (path: string) => void = () => {}): Promise<Readable> {
  const root = resolve(folder)
  const info = await stat(root).catch(() => undefined)
  if (info?.isDirectory() !== true)
    throw new VivariumError('invalid_request', `${root} is not a folder.`, { field: 'workspace' })
  const paths = await listFiles(root)
  const tar = pack()
  addAll(tar, root, paths, onLeftOut).then(
    () => tar.finalize(),
    (error: Error) => tar.destroy(error),
  )
  // The archive is a stream of another make; what sends it expects Node's own.
  return Readable.from(tar, { objectMode: false })
}

/** Paths relative to `root` that git would not ignore. */
async function listFiles(root: string): Promise<string[]> {
  const list = (args: string[]) =>
    execa('git', [...args, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
      encoding: 'buffer',
    })
  const inRepository = await execa('git', ['rev-parse', '--is-inside-work-tree'], { cwd: root, reject: false })
  if (inRepository.code === 'ENOENT') {
    throw new VivariumError(
      'setup_required',
      'Sending a workspace needs git, to know what its .gitignore leaves out: install git.',
    )
  }
  if (inRepository.exitCode === 0) return split((await list([])).stdout)
  // Not a repository: an empty one elsewhere lends its reading of .gitignore.
  const lender = join(tmpdir(), `${WORKSPACE_PREFIX}${await ownTag()}`)
  await mkdir(lender, { mode: 0o700 })
  try {
    await execa('git', ['init', '--quiet', '--bare', lender])
    return split((await list([`--git-dir=${lender}`, `--work-tree=${root}`, '-c', 'core.bare=false'])).stdout)
  } finally {
    await rm(lender, { recursive: true })
  }
}

function split(output: Uint8Array): string[] {
  return [...new Set(Buffer.from(output).toString().split('\0'))].filter((path) => path !== '').toSorted()
}

async function addAll(tar: Pack, root: string, paths: string[], onLeftOut: (path: string) => void): Promise<void> {
  for (const path of paths) {
    const full = join(root, path)
    // Tracked but deleted, or gone since the listing: not part of the workspace.
    const info = await lstat(full).catch(() => undefined)
    if (info?.isSymbolicLink() === true) {
      tar.entry({ name: path, type: 'symlink', linkname: await readlink(full), mtime: info.mtime })
    } else if (info?.isFile() === true) {
      const entry = tar.entry({ name: path, size: info.size, mode: info.mode & 0o777, mtime: info.mtime })
      // A file that grows while it is read must not break the archive: the header has promised a size.
      if (info.size > 0) await pipeline(createReadStream(full, { end: info.size - 1 }), entry)
      else entry.end(undefined)
    } else if (info?.isDirectory() === true) {
      // Git names a folder only where another repository begins.
      onLeftOut(path)
    }
  }
}
