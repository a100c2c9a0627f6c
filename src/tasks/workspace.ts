import type { Blobs } from '../blobs/types.ts'
import { VivariumError } from '../contracts/errors.ts'
import type { Repo } from '../contracts/task.ts'
import { WORKSPACE } from '../link/protocol.ts'
import type { GuestLink } from '../link/types.ts'
import { blobKeys } from './blob-keys.ts'
import type { StoredRequest } from './task-store.ts'

export interface WorkspaceOptions {
  taskId: string
  request: StoredRequest
  link: GuestLink
  blobs: Blobs
  /** Names that are never part of what changed. */
  exclude: string[]
  /** Whether it holds something already that changes are told from: its template's, or the work of a task before. */
  isFilled: boolean
  /** The state of the workspace as it is was marked already. */
  hasBaseline: boolean
  /** Makes the deadline of each step; also in ms, for commands in the guest. */
  deadline: () => AbortSignal
  timeoutMs: number
  /** Called as each step begins, with words for people. */
  onStep: (message: string) => Promise<void>
}

/**
 * Fills the guest's workspace: repository, then the uploaded folder over it, then single files; then marks that state as the one
 * that changes are told from. Rejects with `invalid_request` when the repository can't be had.
 */
export async function prepareWorkspace(options: WorkspaceOptions): Promise<void> {
  const { request, link, onStep } = options
  const { repo, uploadId, files } = request
  if (repo !== undefined) {
    await onStep(`Cloning ${repo.url}`)
    await clone(options, repo)
  }
  if (uploadId !== undefined) {
    await onStep('Unpacking the workspace')
    await unpackUpload(options, uploadId)
  }
  if (files.length > 0) {
    await onStep(files.length === 1 ? 'Copying 1 file' : `Copying ${files.length} files`)
    for (const [n, path] of files.entries()) await copyFile(options, n, path)
  }
  const bringsNothing = repo === undefined && uploadId === undefined && files.length === 0
  if (bringsNothing && options.hasBaseline) return
  const isFilled = options.isFilled || !bringsNothing
  await link.baseline({ root: WORKSPACE, git: isFilled, exclude: options.exclude }, options.deadline())
}

async function unpackUpload(options: WorkspaceOptions, uploadId: string): Promise<void> {
  const tar = await options.blobs.get(blobKeys.upload(uploadId))
  if (tar === undefined) throw new VivariumError('storage_failed', `The workspace ${uploadId} is gone from the store.`)
  await options.link.putArchive(WORKSPACE, tar, options.deadline())
}

async function copyFile(options: WorkspaceOptions, n: number, path: string): Promise<void> {
  const content = await options.blobs.get(blobKeys.input(options.taskId, n))
  if (content === undefined) throw new VivariumError('storage_failed', `The file ${path} is gone from the store.`)
  await options.link.writeFile(`${WORKSPACE}/${path}`, content, { signal: options.deadline() })
}

async function clone(options: WorkspaceOptions, repo: Repo): Promise<void> {
  const cloned = await git(options, ['clone', '--quiet', '--', repo.url, '.'])
  if (!cloned.ok) throw cloneError(repo, cloned.said)
  if (repo.ref === undefined) return
  if ((await git(options, ['checkout', '--quiet', repo.ref, '--'])).ok) return
  // Not a branch, tag or commit of the clone: perhaps one the server gives only by name, such as a pull request's.
  const fetched = await git(options, ['fetch', '--quiet', 'origin', repo.ref])
  const checkedOut = fetched.ok ? await git(options, ['checkout', '--quiet', 'FETCH_HEAD', '--']) : fetched
  if (!checkedOut.ok) throw cloneError(repo, checkedOut.said)
}

async function git(options: WorkspaceOptions, args: string[]): Promise<{ ok: boolean; said: string }> {
  const { link, timeoutMs, deadline } = options
  const spec = {
    argv: ['git', ...args],
    env: { GIT_TERMINAL_PROMPT: '0' },
    cwd: WORKSPACE,
    user: 'agent' as const,
  }
  const { exit, stderr, timedOut } = await link.exec(spec, { timeoutMs, maxBytes: 64 * 1024, signal: deadline() })
  const said = timedOut ? `no answer within ${Math.round(timeoutMs / 1000)} s` : stderr.toString('utf8').trim()
  return { ok: exit.code === 0 && !timedOut, said: said.slice(-500) }
}

function cloneError(repo: Repo, said: string): VivariumError {
  const what = repo.ref === undefined ? repo.url : `${repo.url} at ${repo.ref}`
  return new VivariumError('invalid_request', `The repository ${what} could not be cloned: ${said}`, { field: 'repo' })
}
