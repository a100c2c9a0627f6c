/** What a guest does to its host by what it prints and by the files it leaves, with the real agent, link and disk. */
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { claudeCode } from '../src/agents/claude-code.ts'
import { createDiskBlobs } from '../src/blobs/disk.ts'
import { newId } from '../src/contracts/ids.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../src/link/testing.ts'
import type { ExecOutput, GuestLink } from '../src/link/types.ts'
import { collect } from '../src/tasks/collect.ts'
import { SETTINGS } from '../src/tasks/testing/fake-house.ts'

const MIB = 1024 * 1024
/** Only there to end a hang: much is made here. */
const TIMEOUT_MS = 600_000

let host: TestHost
let agent: TestAgent
let folder: string

beforeEach(async () => {
  host = await startTestHost()
  agent = await startTestAgent(host)
  folder = mkdtempSync(join(tmpdir(), 'vivarium-bad-'))
})

afterEach(async () => {
  rmSync(folder, { recursive: true })
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

async function output(script: string): Promise<AsyncIterable<ExecOutput>> {
  const id = newId('x')
  const argv = ['bash', '-c', script]
  await host.link.start(id, { argv, env: {}, cwd: host.workspace, user: 'agent', stdin: 'none' })
  return host.link.output(id, 0)
}

/** Collects as a task does; its workspace is where this guest has it. */
async function collectAll(settings: Partial<typeof SETTINGS>) {
  const link: GuestLink = {
    ...host.link,
    getArchive: (request, signal) => host.link.getArchive({ ...request, root: host.workspace }, signal),
  }
  const blobs = await createDiskBlobs(join(folder, 'blobs'))
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  const limits = { ...SETTINGS, maxResultBytes: 1024 * MIB, ...settings }
  return collect({ taskId: newId('t'), link, blobs, settings: limits, transcriptPath: undefined, signal })
}

test(
  'a gigabyte without a newline costs the host no more than one line may hold',
  async () => {
    const start = { model: null, maxTurns: null, env: {}, credentialKind: undefined, sessionId: '', resumes: null }
    const parser = claudeCode.parser(start)
    let received = 0
    let kept = 0
    let peak = 0
    for await (const piece of await output(`head -c ${1024 * MIB} /dev/zero | tr '\\0' x; echo; echo end`)) {
      const events = piece.kind === 'exit' ? await parser.end() : await parser.push(piece.kind, piece.data)
      for (const event of events) kept += 'text' in event ? event.text.length : 0
      if (piece.kind !== 'exit') received += piece.data.length
      peak = Math.max(peak, process.memoryUsage().rss)
    }
    await parser.close()
    expect(received).toBe(1024 * MIB + '\nend\n'.length)
    expect(kept).toBeLessThan(2 * MIB)
    expect(peak).toBeLessThan(700 * MIB)
  },
  TIMEOUT_MS,
)

test(
  'while one guest floods its output at full speed, another is served',
  async () => {
    await using other = await startTestHost()
    await using _agent = await startTestAgent(other)
    const progress = { received: 0 }
    const flood = (async () => {
      for await (const piece of await output(`yes | head -c ${256 * MIB}`))
        if (piece.kind !== 'exit') progress.received += piece.data.length
    })()
    let served = 0
    for (; progress.received < 200 * MIB; served += 1) {
      const spec = { argv: ['echo', 'here'], env: {}, cwd: '/', user: 'agent' as const }
      const { stdout } = await other.link.exec(spec, { timeoutMs: TIMEOUT_MS })
      expect(stdout.toString()).toBe('here\n')
    }
    await flood
    expect(served).toBeGreaterThan(2)
    expect(progress.received).toBe(256 * MIB)
    expect(process.memoryUsage().rss).toBeLessThan(700 * MIB)
  },
  TIMEOUT_MS,
)

test(
  'of 200,000 files so many come back as may, and how many did not is said',
  async () => {
    await host.link.baseline({ root: host.workspace, git: false, exclude: [] })
    for (let folder = 0; folder < 200; folder += 1) {
      mkdirSync(join(host.workspace, `${folder}`))
      for (let file = 0; file < 1000; file += 1) closeSync(openSync(join(host.workspace, `${folder}/${file}`), 'w'))
    }
    const { files, problems } = await collectAll({ maxResultFiles: 1000 })
    expect(files).toHaveLength(1000)
    // Four times as many as may come back are looked at.
    expect(problems).toEqual([
      '3000 files were left out: beyond 1000 files.',
      'There were more changes than can be listed; the rest was left out.',
    ])
    const { entries, truncated } = await host.link.tree(host.workspace)
    expect([entries.length, truncated]).toEqual([10_000, true])
  },
  TIMEOUT_MS,
)

test('paths longer than the kernel takes cost nothing but themselves', async () => {
  await host.link.baseline({ root: host.workspace, git: false, exclude: [] })
  writeFileSync(join(host.workspace, 'good'), 'good')
  const script = 'for n in $(seq 30); do mkdir $0 && cd $0 && echo x > file; done'
  const argv = ['bash', '-c', script, 'd'.repeat(250)]
  await host.link.exec({ argv, env: {}, cwd: host.workspace, user: 'agent' }, { timeoutMs: TIMEOUT_MS })
  const { files, problems } = await collectAll({})
  expect(files.map(({ path }) => path)).toContain('good')
  expect(files.length).toBeGreaterThan(10)
  expect(problems).toContainEqual(expect.stringContaining('a path too long to open'))
  expect((await host.link.tree(host.workspace)).entries.length).toBeGreaterThan(20)
})

test('a file that claims more than any disk holds costs the patch, in words, and no more', async () => {
  await host.link.baseline({ root: host.workspace, git: true, exclude: [] })
  writeFileSync(join(host.workspace, 'good'), 'good')
  const sparse = openSync(join(host.workspace, 'sparse'), 'w')
  ftruncateSync(sparse, 2 ** 40)
  closeSync(sparse)
  const { files, problems, patchBytes } = await collectAll({})
  expect(files.map(({ path }) => path)).toEqual(['good'])
  expect(patchBytes).toBeNull()
  expect(problems).toEqual([
    '1 of 2 files did not come back. The results are larger than the limit (results.maxMib).',
    'The patch could not be brought back whole: The guest refused: the changed files hold more than a patch can, 1024 MiB',
  ])
})
