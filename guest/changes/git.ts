import { execFile, spawn } from 'node:child_process'
import { lstatSync } from 'node:fs'
import { once } from 'node:events'
import { copyFile, mkdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { GUEST_USER } from '../../src/link/constants.ts'
import type { BaselineRequest } from '../../src/link/protocol.ts'
import { stderrTail } from '../files/archive.ts'
import { giveToAgent } from '../files/owner.ts'
import { Refusal, type Request } from '../http.ts'
import { messageOf } from '../log.ts'
import type { AgentOptions } from '../options.ts'
import { readBaselineRequest } from './baseline.ts'

/**
 * Contents at the baseline, in a git repository of our own beside the workspace: the user's repository, its index and its
 * history stay untouched, its hooks, filters and settings unused. Files are taken byte for byte (no line-end conversion),
 * `.gitignore` is honoured.
 */
const ATTRIBUTES = '* -text -ident !eol !filter !working-tree-encoding !diff !merge\n'
const SETTINGS = {
  'core.hooksPath': '/dev/null',
  'core.fsmonitor': 'false',
  'core.autocrlf': 'false',
  'core.compression': '0',
  'core.quotePath': 'true',
  'gc.auto': '0',
  'advice.addEmbeddedRepo': 'false',
}

/** Changed contents beyond this are no matter for a patch. A sparse file can claim a thousand times the disk, and git would read all of it. */
const MAX_CONTENT_BYTES = 1024 ** 3
/** Names of changed files, as git lists them. */
const MAX_LISTING_BYTES = 256 * 1024 * 1024

class Repository {
  readonly folder: string
  readonly #root: string
  readonly #options: AgentOptions

  constructor(root: string, options: AgentOptions) {
    this.folder = join(options.stateDir, 'baseline.git')
    this.#root = root
    this.#options = options
  }

  /** Options of a git process in this repository; run as the agent user, to whom the files belong. */
  spawnOptions(index: string) {
    const { switchUsers } = this.#options
    return {
      cwd: this.#root,
      env: {
        PATH: process.env['PATH'] ?? '/usr/bin:/bin',
        HOME: '/nonexistent',
        GIT_DIR: this.folder,
        GIT_WORK_TREE: this.#root,
        GIT_INDEX_FILE: join(this.folder, index),
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_OPTIONAL_LOCKS: '0',
      },
      ...(switchUsers ? { uid: GUEST_USER.uid, gid: GUEST_USER.gid } : {}),
    }
  }

  /** Arguments that come before every git command. */
  arguments(command: string[]): string[] {
    return [...Object.entries(SETTINGS).flatMap(([key, value]) => ['-c', `${key}=${value}`]), ...command]
  }

  async git(index: string, ...command: string[]): Promise<string> {
    const options = { ...this.spawnOptions(index), maxBuffer: MAX_LISTING_BYTES }
    return (await promisify(execFile)('git', this.arguments(command), options)).stdout.trim()
  }

  /** How much the files hold that differ from an index, as far as sizes and times tell. */
  async changedBytes(index: string): Promise<number> {
    const names = await this.git(index, 'ls-files', '-z', '--modified', '--others', '--exclude-standard')
    const sizes = names
      .split('\0')
      .filter((name) => name !== '')
      .map((name) => sizeOf(join(this.#root, name)))
    return sizes.reduce((sum, size) => sum + size, 0)
  }

  /** Puts all files into an index and writes them as a tree; what can't be read is left out. */
  async snapshot(index: string): Promise<string> {
    // Exits with an error for single files it could not add: those are missing from the patch, nothing else is.
    await this.git(index, 'add', '-A', '--ignore-errors').catch((error: unknown) => {
      if (messageOf(error).includes('No space left')) throw new Refusal(422, 'the disk is full')
    })
    return this.git(index, 'write-tree')
  }
}

function sizeOf(path: string): number {
  try {
    return lstatSync(path).size
  } catch {
    // Gone, or a path that is too long: git won't read it either.
    return 0
  }
}

/** Records the contents of `root` for `GET /patch`. */
export async function recordContents(request: BaselineRequest, options: AgentOptions): Promise<void> {
  const repository = new Repository(request.root, options)
  await rm(repository.folder, { recursive: true, force: true })
  await mkdir(repository.folder, { recursive: true })
  await giveToAgent(repository.folder, options.switchUsers)
  await repository.git('index', 'init', '-q')
  await writeFile(join(repository.folder, 'info/attributes'), ATTRIBUTES)
  await writeFile(join(repository.folder, 'info/exclude'), request.exclude.map((pattern) => `${pattern}\n`).join(''))
  await writeFile(join(repository.folder, 'baseline-tree'), await repository.snapshot('index'))
}

/** `GET /patch`: the changes since the baseline as `git apply` takes them. */
export async function getPatch({ stream, closed }: Request, options: AgentOptions): Promise<void> {
  const request = await readBaselineRequest(options.stateDir)
  if (!request.git) throw new Refusal(404, 'the baseline holds no contents')
  const repository = new Repository(request.root, options)
  const before = await readFile(join(repository.folder, 'baseline-tree'), 'utf8')
  const index = join(repository.folder, 'index.now')
  // From a copy of the baseline's index: what did not change is not read again. As old as the original, or older: what git
  // finds changed no earlier than the index, it compares by content, since it may have changed right after it was added.
  const { mtimeMs } = await stat(join(repository.folder, 'index'))
  await copyFile(join(repository.folder, 'index'), index)
  const seconds = Math.floor(mtimeMs / 1000)
  await utimes(index, seconds, seconds)
  await giveToAgent(index, options.switchUsers)
  if ((await repository.changedBytes('index.now')) > MAX_CONTENT_BYTES)
    throw new Refusal(413, `the changed files hold more than a patch can, ${MAX_CONTENT_BYTES / 1024 ** 2} MiB`)
  const after = await repository.snapshot('index.now')
  const diff = ['diff-tree', '-r', '-p', '--binary', '--full-index', '--no-renames', '--no-color']
  const git = spawn('git', repository.arguments([...diff, '--no-ext-diff', '--no-textconv', before, after]), {
    ...repository.spawnOptions('index.now'),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const stderr = stderrTail(git)
  const exited = once(git, 'close')
  closed.addEventListener('abort', () => git.kill('SIGKILL'))
  stream.respond({ ':status': 200, 'content-type': 'text/x-patch' })
  await pipeline(git.stdout, stream, { end: false })
  const [code] = (await exited) as [number | null]
  if (code !== 0) throw new Error(`git diff-tree failed: ${stderr()}`)
  stream.end()
}
