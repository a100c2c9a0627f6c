import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { Readable, type Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { GUEST_USER } from '../../src/link/constants.ts'
import type { ArchiveRequest } from '../../src/link/protocol.ts'
import { answerJson, pathParameter, readJson, Refusal, type Request } from '../http.ts'
import { makeFolder } from './owner.ts'

const MAX_STDERR = 4096

/** Collects the end of what a child says on stderr. */
export function stderrTail(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.setEncoding('utf8').on('data', (data: string) => {
    text = (text + data).slice(-MAX_STDERR)
  })
  return () => text.trim()
}

/** Resolves when a stream takes more, or takes nothing any more. */
function roomIn(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('drain', done).off('close', done)
      resolve()
    }
    stream.on('drain', done).on('close', done)
  })
}

/** Writes a request's body into a child, without closing the request when the child stops reading: it is still to be answered. */
async function feed(stream: ServerHttp2Stream, stdin: Writable): Promise<void> {
  stdin.on('error', () => undefined)
  const body: AsyncIterable<Buffer> = stream.iterator({ destroyOnReturn: false })
  for await (const chunk of body) {
    if (stdin.destroyed) return
    if (!stdin.write(chunk)) await roomIn(stdin)
  }
  stdin.end()
}

/**
 * `PUT /archive?path=`: unpacks a tar stream as the agent user, whose rights are the limit of what a hostile archive can do;
 * GNU tar itself makes absolute names relative and refuses `..`.
 */
export async function putArchive({ stream, query, closed }: Request, switchUsers: boolean): Promise<void> {
  const path = pathParameter(query)
  await makeFolder(path, switchUsers)
  const tar = spawn('tar', ['-x', '-p', '--no-same-owner', '-f', '-', '-C', path], {
    stdio: ['pipe', 'ignore', 'pipe'],
    ...(switchUsers ? { uid: GUEST_USER.uid, gid: GUEST_USER.gid } : {}),
  })
  const stderr = stderrTail(tar)
  const exited = once(tar, 'close')
  closed.addEventListener('abort', () => tar.kill('SIGKILL'))
  // When tar ends early its exit code and stderr say why, better than the broken pipe does.
  const fed = await feed(stream, tar.stdin).then(
    () => true,
    () => false,
  )
  const [code] = (await exited) as [number | null]
  if (code !== 0 || !fed) throw new Refusal(422, `the archive could not be unpacked: ${stderr() || 'it is cut short'}`)
  answerJson(stream, {})
}

/**
 * `POST /archive`: the named paths as a tar stream. Read as root, so that what an agent made with sudo comes along. Files that
 * vanished or changed meanwhile are left out or as they were found: the host compares with what it asked for. Whole folders, which
 * only a guest unpacks, come with their holes as such: a file can claim a thousand times the disk.
 */
export async function postArchive({ stream, closed }: Request): Promise<void> {
  const { root, paths, recursive = false } = await readJson<ArchiveRequest>(stream)
  const format = '--format=pax --numeric-owner --owner=0 --group=0 --hard-dereference --ignore-failed-read'
  const names = `${recursive ? '--recursion --sparse' : '--no-recursion'} --null --verbatim-files-from --files-from=-`
  const tar = spawn('tar', ['-c', '-f', '-', '-C', root, ...`${format} ${names}`.split(' ')])
  const stderr = stderrTail(tar)
  const exited = once(tar, 'close')
  closed.addEventListener('abort', () => tar.kill('SIGKILL'))
  const fed = pipeline(Readable.from(paths.map((path) => `${path}\0`)), tar.stdin).catch(() => undefined)
  stream.respond({ ':status': 200, 'content-type': 'application/x-tar' })
  await pipeline(tar.stdout, stream, { end: false })
  await fed
  const [code, signal] = (await exited) as [number | null, string | null]
  // 1: some files changed while read; 2: some were missing. The archive is whole in both cases.
  if (code === null || code > 2) throw new Error(`tar ended with ${code ?? signal}: ${stderr()}`)
  stream.end()
}
