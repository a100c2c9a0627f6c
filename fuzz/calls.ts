import assert from 'node:assert/strict'
import type { Readable } from 'node:stream'
import { isConfinedPath } from '../src/contracts/paths.ts'
import { ExecExit, HelloResponse, TreeResponse } from '../src/link/protocol.ts'
import type { GuestLink } from '../src/link/types.ts'

const MAX_BYTES = 100_000
const SPEC = { argv: ['true'], env: {}, cwd: '/', user: 'agent' as const }

async function drain(body: Readable | undefined): Promise<void> {
  let bytes = 0
  for await (const chunk of body ?? []) {
    bytes += (chunk as Buffer).length
    // What has no end of its own is bounded by whoever reads it.
    if (bytes > MAX_BYTES) break
  }
}

async function* piecesOf(link: GuestLink, signal: AbortSignal) {
  let next = 0
  for await (const piece of link.output('x', 0, signal)) {
    assert.ok(piece.next > next, 'an offset that does not grow')
    next = piece.next
    yield piece
    if (next > MAX_BYTES) return
  }
}

/** Every call of a link whose answer the host reads: plays it, and checks what came of it. Rejects as the call does. */
export const CALLS: Record<string, (link: GuestLink, signal: AbortSignal) => Promise<void>> = {
  async hello(link, signal) {
    HelloResponse.parse(await link.hello({ hostname: 'vm' }, signal))
  },
  start: (link, signal) => link.start('x', { ...SPEC, stdin: 'none' }, signal),
  async output(link, signal) {
    // Output has no deadline: a process may be silent for as long as it likes.
    const enough = AbortSignal.timeout(300)
    try {
      for await (const piece of piecesOf(link, AbortSignal.any([signal, enough])))
        if (piece.kind === 'exit') ExecExit.parse(piece.exit)
    } catch (error) {
      if (!enough.aborted) throw error
    }
  },
  async exec(link, signal) {
    const { exit, stdout, stderr } = await link.exec(SPEC, { timeoutMs: 200, maxBytes: 1000, signal })
    ExecExit.parse(exit)
    assert.ok(stdout.length <= 1000 && stderr.length <= 1000)
  },
  input: (link, signal) => link.input('x', 0, Buffer.from('input'), true, signal),
  kill: (link) => link.kill('x', 'SIGKILL'),
  resize: (link, signal) => link.resize('x', { rows: 1, cols: 1 }, signal),
  async readFile(link, signal) {
    const { size, body } = await link.readFile('/f', { maxBytes: MAX_BYTES, signal })
    assert.ok(size <= MAX_BYTES)
    await drain(body)
  },
  writeFile: (link, signal) => link.writeFile('/f', Buffer.alloc(20_000), { signal }),
  async tree(link, signal) {
    TreeResponse.parse(await link.tree('/', signal))
  },
  async getArchive(link, signal) {
    await drain(await link.getArchive({ root: '/', paths: ['a'] }, signal))
  },
  baseline: (link, signal) => link.baseline({ root: '/', git: false, exclude: [] }, signal),
  async changes(link, signal) {
    const { changes } = await link.changes({ maxEntries: 5, signal })
    assert.ok(changes.length <= 5 && changes.every(({ path }) => isConfinedPath(path)))
  },
  async patch(link, signal) {
    await drain(await link.patch({ maxBytes: MAX_BYTES, signal }))
  },
}
