import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Task } from '../src/contracts/task.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'

let orchestrator: TestOrchestrator
let folder: string
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script: { conversations: [] } })
  folder = mkdtempSync(join(tmpdir(), 'vivarium-project-'))
  mkdirSync(join(folder, 'src'))
  writeFileSync(join(folder, 'src/greeting.txt'), 'hello\n')
  writeFileSync(join(folder, 'obsolete.txt'), 'x\n')
  writeFileSync(join(folder, 'secret.env'), 'TOKEN=1\n')
  writeFileSync(join(folder, '.gitignore'), 'secret.env\n')
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  await orchestrator?.[Symbol.asyncDispose]()
})

const work = `
set -e
test ! -e secret.env
sed -i s/hello/goodbye/ src/greeting.txt
rm obsolete.txt
mkdir -p deep/er/still node_modules/x
echo new > deep/er/still/file.txt
echo cache > node_modules/x/cached.js
printf 'GIF89a' > pixel.gif
ln -s /etc/passwd link
id -un
`

test('a workspace goes in without what is ignored; its changes come back as files and as a patch that applies', async () => {
  const { code, stdout } = await orchestrator.cli(
    ['run', work, '--agent', 'shell', '--workspace', '.', '--json', '--memory', '1024'],
    { cwd: folder },
  )
  expect(code).toBe(0)
  const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
  expect(task.result?.trim()).toBe('agent')
  expect(task.files.map((file) => file.path).toSorted()).toEqual([
    'deep/er/still/file.txt',
    'pixel.gif',
    'src/greeting.txt',
  ])
  expect(task.files.find((file) => file.path === 'pixel.gif')?.mimeType).toBe('image/gif')

  const diff = await orchestrator.cli(['diff', task.id])
  expect(diff.stdout).toContain('-hello')
  expect(diff.stdout).toContain('+goodbye')
  expect(diff.stdout).toContain('deleted file mode')

  const applied = await orchestrator.cli(['apply', task.id], { cwd: folder })
  expect(applied).toMatchObject({ code: 0 })
  expect(readFileSync(join(folder, 'src/greeting.txt'), 'utf8')).toBe('goodbye\n')
  expect(readFileSync(join(folder, 'deep/er/still/file.txt'), 'utf8')).toBe('new\n')

  const again = await orchestrator.cli(['apply', task.id], { cwd: folder })
  expect(again.code).toBe(2)
  expect(again.stderr).toContain('do not apply here')

  const listed = await orchestrator.cli(['files', task.id])
  expect(listed.stdout).toContain('deep/er/still/file.txt')
  const got = await orchestrator.cli(['get', task.id, 'deep/er/still/file.txt'])
  expect(got.stdout).toBe('new\n')
})

test('a machine without a task: exec, files, destroy; it has no network card', async () => {
  const { vms } = orchestrator.client
  const machine = await vms.create()
  const listed = await orchestrator.cli(['vms'])
  expect(listed.stdout).toContain(machine.id)
  const links = await orchestrator.cli(['exec', machine.id, '--', 'ls', '/sys/class/net'])
  expect(links).toMatchObject({ code: 0, stdout: 'lo\n' })
  const failed = await orchestrator.cli(['exec', machine.id, '--', 'sh', '-c', 'echo no >&2; exit 7'])
  expect(failed).toMatchObject({ code: 7, stderr: 'no\n' })
  const root = await vms.exec(machine.id, { command: 'sudo id -u; cat > in.txt; wc -c < in.txt', stdin: 'four' })
  expect(root.stdout.split(/\s+/)).toEqual(['0', '4', ''])
  const destroyed = await orchestrator.cli(['destroy', machine.id])
  expect(destroyed.code).toBe(0)
  expect(await vms.list()).toEqual([])
})

test('a host that is on no list is refused, with a sentence and an event', async () => {
  const prompt =
    'curl -sS --max-time 60 https://blocked.example/ 2>&1; curl -s --max-time 60 http://blocked.example/; exit 3'
  const { code, stdout } = await orchestrator.cli(['run', prompt, '--agent', 'shell', '--memory', '1024'])
  expect(code).toBe(3)
  expect(stdout).toMatch(/blocked\.example.*allow/s)
  const { items } = await orchestrator.client.tasks.list({ limit: 1 })
  expect(items[0]).toMatchObject({ status: 'failed', exitCode: 3, error: { code: 'agent_failed' } })
  const events = await orchestrator.client.tasks.events(items[0]?.id ?? '')
  const denied = events.items.filter((event) => event.type === 'egress' && !event.allowed)
  expect(denied.map((event) => event.type === 'egress' && event.port).toSorted()).toEqual([443, 80])
})

test('a task whose program the kernel killed for want of memory says so', async () => {
  const prompt = `echo before > kept.txt; python3 -c "x = []
while True: x.append(b'x' * 4_000_000)"`
  const { code, stdout } = await orchestrator.cli(['run', prompt, '--agent', 'shell', '--memory', '512', '--json'])
  const task = Task.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''))
  expect(task).toMatchObject({ status: 'failed', exitCode: 137, error: { code: 'out_of_memory' } })
  expect(task.error?.message).toMatch(/memory/)
  expect(task.files.map((file) => file.path)).toEqual(['kept.txt'])
  expect(code).toBe(137)
})
