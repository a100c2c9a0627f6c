import { createReadStream, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Task } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'

/** Loopback, but not the address that tools leave their proxy out for: the clone has to take the way through the gateway. */
const HOST = '127.0.0.2'

let orchestrator: TestOrchestrator
let folder: string
let server: Server
let url: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vivarium-repository-'))
  await makeRepository(folder)
  // The files of a bare repository are all that git's "dumb" protocol needs.
  server = createServer((request, response) => {
    const path = join(folder, new URL(request.url ?? '/', 'http://x').pathname)
    if (!(statSync(path, { throwIfNoEntry: false })?.isFile() ?? false)) return void response.writeHead(404).end()
    createReadStream(path).pipe(response)
  })
  server.listen(0, HOST)
  await once(server, 'listening')
  url = `http://${HOST}:${(server.address() as AddressInfo).port}/project.git`
  orchestrator = await startOrchestrator({ script: { conversations: [] } })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
  server?.close()
  rmSync(folder, { recursive: true, force: true })
})

/** `project.git` with a file on `main` and another on `feature`. */
async function makeRepository(parent: string): Promise<void> {
  const work = join(parent, 'work')
  const git = (...args: string[]) =>
    execa('git', ['-C', work, '-c', 'user.name=t', '-c', 'user.email=t@example', ...args])
  await execa('git', ['init', '--quiet', '--initial-branch=main', work])
  writeFileSync(join(work, 'main.txt'), 'on main\n')
  await git('add', '.')
  await git('commit', '--quiet', '-m', 'first')
  await git('checkout', '--quiet', '-b', 'feature')
  writeFileSync(join(work, 'feature.txt'), 'on feature\n')
  await git('add', '.')
  await git('commit', '--quiet', '-m', 'second')
  await execa('git', ['clone', '--quiet', '--bare', work, join(parent, 'project.git')])
  await execa('git', ['-C', join(parent, 'project.git'), 'update-server-info'])
}

test('a repository is cloned at its ref through the gateway; only what the task changed comes back', async () => {
  const prompt =
    'cat feature.txt; echo changed >> main.txt; echo new > new.txt; git add -A; git -c user.name=a -c user.email=a@b commit -qm work'
  const { code, stdout } = await orchestrator.cli([
    'run',
    prompt,
    '--agent',
    'shell',
    '--memory',
    '1024',
    '--repo',
    `${url}#feature`,
    '--json',
  ])
  const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
  expect({ code, error: task.error }).toEqual({ code: 0, error: null })
  expect(task.result).toBe('on feature\n')
  expect(task.files.map((file) => file.path)).toEqual(['main.txt', 'new.txt'])
  const { stdout: patch } = await orchestrator.cli(['diff', task.id])
  expect(patch).toContain('+changed')
  expect(patch).toContain('+++ b/new.txt')
  expect(patch).not.toContain('feature.txt')
})

test('a repository that is not there fails the task in words', async () => {
  const { code, stdout } = await orchestrator.cli([
    'run',
    'true',
    '--agent',
    'shell',
    '--memory',
    '1024',
    '--repo',
    `${url}x`,
    '--json',
  ])
  const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
  expect(code).toBe(1)
  expect(task).toMatchObject({ status: 'failed', error: { message: expect.stringMatching(/clon/) } })
})
