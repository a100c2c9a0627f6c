import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text, buffer } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newId } from '../src/contracts/ids.ts'
import { startTestAgent, startTestHost, type TestAgent, type TestHost } from '../src/link/testing.ts'
import type { ExecOutput } from '../src/link/types.ts'

let host: TestHost
let agent: TestAgent

beforeAll(async () => {
  host = await startTestHost()
  agent = await startTestAgent(host)
})

afterAll(async () => {
  await agent[Symbol.asyncDispose]()
  await host[Symbol.asyncDispose]()
})

function spec(...argv: string[]) {
  return { argv, env: {}, cwd: host.workspace, user: 'agent' as const }
}

function sh(script: string) {
  return spec('/bin/bash', '-c', script)
}

function alive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'))
  } catch {
    return false
  }
}

async function patchText(maxBytes: number): Promise<string> {
  const patch = await host.link.patch({ maxBytes })
  if (patch === undefined) throw new Error('there is no patch')
  return text(patch)
}

test('hello brings the agent and its boot id', async () => {
  const answer = await host.link.hello({ hostname: 'vm-test' }, new AbortController().signal)
  expect(answer.bootId).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
})

test('a command gives back its output, its exit code and the signal that ended it', async () => {
  const result = await host.link.exec(sh('echo out; echo err >&2; exit 3'), { timeoutMs: 20_000 })
  expect(result).toMatchObject({
    exit: { code: 3, signal: null, outOfMemory: false },
    timedOut: false,
    truncated: false,
  })
  expect([result.stdout.toString(), result.stderr.toString()]).toEqual(['out\n', 'err\n'])
  const killed = await host.link.exec(sh('kill -TERM $$'), { timeoutMs: 20_000 })
  expect(killed.exit).toMatchObject({ code: null, signal: 'SIGTERM' })
})

test('scripts may reopen their standard streams by name', async () => {
  const script = 'echo a >/dev/stdout; echo b >/dev/stderr; sleep 0.2; cat /dev/stdin'
  const result = await host.link.exec(sh(script), { timeoutMs: 20_000, stdin: Buffer.from('c') })
  expect([result.stdout.toString(), result.stderr.toString()]).toEqual(['a\nc', 'b\n'])
})

test('the environment has the proxy and what the host adds, not what the agent itself has', async () => {
  const result = await host.link.exec({ ...spec('env'), env: { EXTRA: 'yes' } }, { timeoutMs: 20_000 })
  const lines = result.stdout.toString().split('\n')
  expect(lines).toContain('EXTRA=yes')
  expect(lines).toContain('HOME=/home/agent')
  expect(lines).toContain(`https_proxy=http://127.0.0.1:${agent.proxyPort}`)
  expect(lines.filter((line) => line.startsWith('VITEST'))).toEqual([])
})

test('a process that cannot be started is refused with the reason', async () => {
  await expect(host.link.exec(spec('/nonexistent'), { timeoutMs: 20_000 })).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('/nonexistent') as string,
  })
  const nowhere = { ...spec('true'), cwd: '/nowhere' }
  await expect(host.link.exec(nowhere, { timeoutMs: 20_000 })).rejects.toThrow('/nowhere does not exist')
})

test('output beyond the cap is dropped and said to be', async () => {
  const result = await host.link.exec(sh('head -c 5000000 /dev/zero'), { timeoutMs: 20_000, maxBytes: 1000 })
  expect(result).toMatchObject({ truncated: true, exit: { code: 0 } })
  expect(result.stdout.length).toBe(1000)
})

test('a command that takes too long is killed with all it started', async () => {
  const result = await host.link.exec(sh('sleep 1000 & echo $!; wait'), { timeoutMs: 300 })
  expect(result).toMatchObject({ timedOut: true, exit: { signal: 'SIGKILL' } })
  expect(alive(Number(result.stdout.toString()))).toBe(false)
})

test('a background process that holds the pipes open does not hold the end back', async () => {
  const result = await host.link.exec(sh('sleep 1000 & echo $!'), { timeoutMs: 20_000 })
  expect(result).toMatchObject({ timedOut: false, exit: { code: 0 } })
  const pid = Number(result.stdout.toString())
  // Never 0: that is this test's own process group.
  expect(pid).toBeGreaterThan(1)
  process.kill(pid, 'SIGKILL')
})

test('a signal reaches a daemon that left its process group', async () => {
  const id = newId('x')
  await host.link.start(id, { ...sh('setsid setsid -f sleep 1000; pgrep -n sleep; sleep 1000'), stdin: 'none' })
  let daemon = 0
  for await (const piece of host.link.output(id, 0)) {
    if (piece.kind === 'exit') break
    daemon = Number(piece.data.toString())
    expect(alive(daemon)).toBe(true)
    await host.link.kill(id, 'SIGKILL')
  }
  expect(daemon).toBeGreaterThan(0)
  expect(alive(daemon)).toBe(false)
})

test('output goes on without loss or repetition after each of many broken connections', async () => {
  const size = 20_000_000
  const content = randomBytes(size)
  writeFileSync(join(host.workspace, 'random'), content)
  const id = newId('x')
  await host.link.start(id, { ...spec('cat', 'random'), stdin: 'none' })
  const hash = createHash('sha256')
  let received = 0
  let cuts = 0
  let exit: ExecOutput | undefined
  for await (const piece of host.link.output(id, 0)) {
    if (piece.kind === 'exit') exit = piece
    else {
      hash.update(piece.data)
      received += piece.data.length
      if (received > (cuts + 1) * 4_000_000 && cuts < 4) {
        cuts += 1
        host.controls.at(-1)?.destroy()
      }
    }
  }
  expect(cuts).toBe(4)
  expect(received).toBe(size)
  expect(hash.digest('hex')).toBe(createHash('sha256').update(content).digest('hex'))
  expect(exit).toMatchObject({ exit: { code: 0 } })
})

test('a flood with a slow reader is held back in the guest', async () => {
  const id = newId('x')
  await host.link.start(id, { ...sh('head -c 200000000 /dev/zero | tee >(wc -c >progress) ; exit 0'), stdin: 'none' })
  let received = 0
  let first = true
  for await (const piece of host.link.output(id, 0)) {
    if (piece.kind === 'exit') break
    received += piece.data.length
    if (!first) continue
    first = false
    // The process writes as long as it may while nobody reads.
    await sleep(1500)
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${agent.pid}/status`, 'latin1'))?.[1])
    expect(rss).toBeLessThan(250_000)
    expect(process.memoryUsage().rss).toBeLessThan(600_000_000)
  }
  expect(received).toBe(200_000_000)
  await expect.poll(() => existsSync(join(host.folder, 'state/spool', id))).toBe(false)
}, 60_000)

test('input arrives once, however often it is sent', async () => {
  const id = newId('x')
  await host.link.start(id, { ...spec('cat'), stdin: 'pipe' })
  await host.link.input(id, 0, Buffer.from('hello '), false)
  await host.link.input(id, 0, Buffer.from('hello '), false)
  await host.link.input(id, 3, Buffer.from('lo wor'), false)
  await expect(host.link.input(id, 100, Buffer.from('x'), false)).rejects.toMatchObject({ code: 'invalid_request' })
  await host.link.input(id, 9, Buffer.from('ld'), true)
  await host.link.input(id, 9, Buffer.from('ld'), true)
  const out: Buffer[] = []
  for await (const piece of host.link.output(id, 0)) if (piece.kind === 'stdout') out.push(piece.data)
  expect(Buffer.concat(out).toString()).toBe('hello world')
})

test('a second start with the same id starts nothing', async () => {
  const id = newId('x')
  await host.link.start(id, { ...sh('echo ran >> count'), stdin: 'none' })
  await host.link.start(id, { ...sh('echo ran >> count'), stdin: 'none' })
  for await (const piece of host.link.output(id, 0)) expect(piece.kind).toBe('exit')
  expect(readFileSync(join(host.workspace, 'count'), 'utf8')).toBe('ran\n')
})

test('large input reaches a process that reads it, and is dropped for one that does not', async () => {
  const stdin = randomBytes(5_000_000)
  const read = await host.link.exec(spec('sha256sum'), { timeoutMs: 20_000, stdin })
  expect(read.stdout.toString()).toContain(createHash('sha256').update(stdin).digest('hex'))
  const unread = await host.link.exec(spec('true'), { timeoutMs: 20_000, stdin })
  expect(unread.exit.code).toBe(0)
})

test('a file of 100 MB goes in and comes out unchanged', async () => {
  const content = randomBytes(100_000_000)
  const path = join(host.workspace, 'a/b/large')
  await host.link.writeFile(path, content, { mode: 0o600 })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const { size, body } = await host.link.readFile(path, { maxBytes: 200_000_000 })
  expect(size).toBe(content.length)
  expect((await buffer(body)).equals(content)).toBe(true)
})

test('a large file under way holds up nobody else', async () => {
  const write = host.link.writeFile(join(host.workspace, 'larger'), Buffer.alloc(200_000_000))
  for (let round = 0; round < 5; round += 1)
    expect((await host.link.exec(spec('true'), { timeoutMs: 20_000 })).exit.code).toBe(0)
  await write
})

test('files that are absent, too large or no files are refused, each in its way', async () => {
  const read = (path: string, maxBytes = 10) => host.link.readFile(path, { maxBytes })
  await expect(read(join(host.workspace, 'absent'))).rejects.toMatchObject({ code: 'not_found' })
  await expect(read(host.workspace)).rejects.toMatchObject({ code: 'invalid_request' })
  writeFileSync(join(host.workspace, 'eleven'), 'eleven bytes')
  await expect(read(join(host.workspace, 'eleven'))).rejects.toMatchObject({ code: 'too_large' })
  execFileSync('mkfifo', [join(host.workspace, 'fifo')])
  await expect(read(join(host.workspace, 'fifo'))).rejects.toMatchObject({ code: 'invalid_request' })
})

test('an archive goes in and comes out with modes, links and odd names', async () => {
  const from = join(host.workspace, 'from')
  mkdirSync(join(from, 'folder'), { recursive: true })
  writeFileSync(join(from, 'folder/-odd\nname ü'), 'odd')
  writeFileSync(join(from, 'run'), '#!/bin/sh', { mode: 0o755 })
  symlinkSync('run', join(from, 'link'))
  const paths = ['folder/-odd\nname ü', 'run', 'link', 'missing']
  const tar = await host.link.getArchive({ root: from, paths })
  const to = join(host.workspace, 'to')
  await host.link.putArchive(to, tar)
  expect(readFileSync(join(to, 'folder/-odd\nname ü'), 'utf8')).toBe('odd')
  expect(statSync(join(to, 'run')).mode & 0o777).toBe(0o755)
  expect(execFileSync('readlink', [join(to, 'link')]).toString()).toBe('run\n')
})

test('an archive that is none is refused with what tar says', async () => {
  const { Readable } = await import('node:stream')
  const garbage = Readable.from([randomBytes(3_000_000), randomBytes(3_000_000)])
  await expect(host.link.putArchive(join(host.workspace, 'x'), garbage)).rejects.toMatchObject({
    code: 'invalid_request',
    message: expect.stringContaining('tar') as string,
  })
})

test('a tree lists what is there', async () => {
  const folder = join(host.workspace, 'tree')
  mkdirSync(join(folder, 'sub'), { recursive: true })
  writeFileSync(join(folder, 'sub/file'), '12345')
  const { entries, truncated } = await host.link.tree(folder)
  expect(truncated).toBe(false)
  expect(entries.map(({ path, type }) => [path, type])).toEqual([
    ['sub', 'directory'],
    ['sub/file', 'file'],
  ])
})

test('changes since the baseline are found, and as a patch they make the old folder the new one', async () => {
  const root = join(host.workspace, 'project')
  const write = (name: string, content: string | Buffer) => {
    mkdirSync(join(root, name, '..'), { recursive: true })
    writeFileSync(join(root, name), content)
  }
  write('.gitignore', 'ignored\n')
  write('.gitattributes', '* text=auto eol=crlf\n*.bin -diff\n*.lock filter=evil\n')
  write('same', 'same')
  write('windows', 'one\r\ntwo\r\n')
  write('gone', 'gone')
  write('folder/a.bin', randomBytes(1000))
  write('node_modules/dep/index.js', 'x')
  const copy = join(host.workspace, 'copy')
  execFileSync('cp', ['-a', root, copy])
  await host.link.baseline({ root, git: true, exclude: ['node_modules', '*.pyc', '.git'] })

  write('windows', 'one\r\nthree\r\n')
  write('folder/a.bin', randomBytes(1000))
  write('folder/new file', 'new')
  write('node_modules/dep/index.js', 'changed')
  write('x.pyc', 'cache')
  write('ignored', 'built')
  write('a.lock', 'locked')
  execFileSync('rm', [join(root, 'gone')])
  execFileSync('bash', ['-c', `touch "${root}/$(printf 'bad\\xff')"`])

  const { changes, skipped, truncated } = await host.link.changes({ maxEntries: 100 })
  expect(changes.map(({ kind, path }) => `${kind} ${path}`).toSorted()).toEqual([
    'changed folder/a.bin',
    'changed windows',
    'created a.lock',
    'created folder/new file',
    'created ignored',
    'deleted gone',
  ])
  expect([skipped, truncated]).toEqual([1, false])
  expect((await host.link.changes({ maxEntries: 2 })).truncated).toBe(true)

  const applied = await patchText(1_000_000)
  execFileSync('git', ['apply', '--whitespace=nowarn', '-'], { cwd: copy, input: applied })
  for (const name of ['windows', 'folder/a.bin', 'folder/new file', 'a.lock'])
    expect(readFileSync(join(copy, name)).equals(readFileSync(join(root, name)))).toBe(true)
  expect(existsSync(join(copy, 'gone'))).toBe(false)
  expect(applied).not.toContain('ignored')
  expect(applied).not.toContain('node_modules')
  await expect(patchText(10)).rejects.toMatchObject({ code: 'too_large' })
})

test('a baseline without contents has no patch', async () => {
  await host.link.baseline({ root: host.workspace, git: false, exclude: [] })
  expect(await host.link.patch({ maxBytes: 10 })).toBeUndefined()
})

test('a machine without contents at the baseline can hold a repository of its own', async () => {
  const root = join(host.workspace, 'repository')
  mkdirSync(root)
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.email=a@b', '-c', 'user.name=a', ...args], { cwd: root })
  git('init', '-q')
  writeFileSync(join(root, 'file'), 'old\n')
  git('add', '.')
  git('commit', '-qm', 'one')
  await host.link.baseline({ root, git: true, exclude: ['.git'] })
  mkdirSync(join(root, 'nested'))
  execFileSync('git', ['init', '-q'], { cwd: join(root, 'nested') })
  writeFileSync(join(root, 'nested/inner'), 'inner\n')
  writeFileSync(join(root, 'file'), 'new\n')
  const patch = await patchText(100_000)
  expect(patch).toContain('+new')
})

test('an agent that was killed is replaced; its processes are lost, not run again', async () => {
  await using second = await startTestHost()
  const first = await startTestAgent(second)
  const spec = { argv: ['bash', '-c', `echo ran >> ran; kill -9 ${first.pid}`], env: {} }
  const command = { ...spec, cwd: second.workspace, user: 'agent' as const }
  const lost = second.link.exec(command, { timeoutMs: 20_000 })
  lost.catch(() => undefined)
  await expect.poll(() => alive(first.pid)).toBe(false)
  await using next = await startTestAgent(second)
  await expect(lost).rejects.toMatchObject({ code: 'guest_lost' })
  expect(readFileSync(join(second.workspace, 'ran'), 'utf8')).toBe('ran\n')
  expect((await second.link.exec({ ...command, argv: ['true'] }, { timeoutMs: 20_000 })).exit.code).toBe(0)
  await first[Symbol.asyncDispose]()
  expect(alive(next.pid)).toBe(true)
})
