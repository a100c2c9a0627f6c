/**
 * Guests that do harm, in real machines: the orchestrator stays up, other tasks go on, the task ends in words, what can be brought
 * out comes out, nothing is left. What needs no machine of its own is shown where it is cheaper:
 *
 *   floods stdout; prints 1 GiB without a newline; makes 200,000 files       guest/bad-guests.test.ts, guest/agent.test.ts, src/tasks/bad-guests.test.ts
 *   answers hello and never again; sends malformed frames; lies              src/tasks/bad-guests.test.ts, src/link/hostile.test.ts
 *   archives that attack the host: paths, types, overrides, headers, ends    src/tasks/tar-reader.test.ts, src/tasks/collect.test.ts
 *   fills its memory with one process; kills its agent; its VMM is killed    test/workspace.test.ts, test/failures.test.ts
 *   attacks the gateway                                                      test/escape
 *   what nobody thought of                                                   fuzz
 */
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, assert, beforeAll, expect, test } from 'vitest'
import type { TaskEvent } from '../src/contracts/event.ts'
import type { Task, TaskRequestInput } from '../src/contracts/task.ts'
import { processesNaming, startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  // A state for follow-ups would bring a full disk out.
  orchestrator = await startOrchestrator({ script: { conversations: [] }, env: { VIVARIUM_RESULTS_STATE_MIB: '0' } })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

/** Machines that were seen; none may leave a process. */
const machines: string[] = []
afterEach(async () => {
  assert.deepEqual(await orchestrator.client.vms.list(), [])
  for (const id of machines.splice(0)) assert.deepEqual(processesNaming(id), [])
})

/** Runs a script as the agent of a task, to its end. `warnings` say what did not come back. */
async function run(prompt: string, fields: Partial<TaskRequestInput> = {}) {
  const { tasks } = orchestrator.client
  const { id } = await tasks.submit({ prompt, agent: 'shell', ...fields })
  const events: TaskEvent[] = []
  for await (const event of tasks.follow(id)) events.push(event)
  const task = await tasks.get(id)
  if (task.vmId !== null) machines.push(task.vmId)
  expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
  expect(events.at(-1)).toMatchObject({ type: 'status', status: task.status })
  const warnings = events.flatMap((event) => (event.type === 'log' && event.level === 'warn' ? [event.message] : []))
  return { task, events, warnings }
}

const paths = (task: Task) => task.files.map(({ path }) => path).toSorted()

test('a fork bomb fills its own group, beside it another task goes on, and its files come back', async () => {
  // Once it has gone off, nothing in its group can start anything: what follows is the shell's own.
  const bomb = `echo before > kept.txt
    mkfifo /tmp/never; exec 3<>/tmp/never
    bomb() { bomb | bomb & }
    IFS=: read -r _ _ group < /proc/self/cgroup
    bomb 2>/dev/null
    count=0
    while [ "$count" -eq 0 ] && [ "$SECONDS" -lt 120 ]; do
      read -t 1 -u 3
      read -r what count < /sys/fs/cgroup$group/pids.events
    done
    echo "$what $count" > refused.txt`
  const [bombed, beside] = await Promise.all([run(bomb), run('echo fine > fine.txt')])
  expect(beside.task).toMatchObject({ status: 'succeeded', files: [{ path: 'fine.txt' }] })
  expect([bombed.task.status, bombed.warnings]).toEqual(['succeeded', []])
  expect(paths(bombed.task)).toEqual(['kept.txt', 'refused.txt'])
  const refused = await text((await orchestrator.client.tasks.file(bombed.task.id, 'refused.txt')).body)
  expect(refused).toMatch(/^max [1-9]/)
})

test('a full disk and a killed agent: the task fails in words, and what was there comes back', async () => {
  const fill = `echo changed > given.txt
    echo before > kept.txt
    n=0
    mkdir .cache
    while fallocate -l 512M .cache/$n 2>/dev/null; do n=$((n + 1)); done
    while fallocate -l 4M .cache/$n 2>/dev/null; do n=$((n + 1)); done
    head -c 10M /dev/zero > .cache/rest || echo "the disk is full"
    sudo pkill -9 -f agent.mjs
    sleep 1000`
  const given = { path: 'given.txt', contentBase64: Buffer.from('given\n').toString('base64') }
  const { task, events } = await run(fill, { files: [given] })
  expect(events).toContainEqual(expect.objectContaining({ type: 'raw', text: 'the disk is full\n' }))
  expect(task).toMatchObject({ status: 'failed', error: { code: 'guest_lost' } })
  expect(paths(task)).toEqual(['given.txt', 'kept.txt'])
})

test('a full memory that no killing of processes frees is survived, and said', async () => {
  const hog = `echo before > kept.txt
    fallocate -l 900M /dev/shm/hog
    python3 -c "x = []
while True: x.append(b'x' * 4_000_000)"`
  const { task, warnings } = await run(hog)
  expect(task).toMatchObject({ status: 'failed', exitCode: 137, error: { code: 'out_of_memory' } })
  expect(warnings).toEqual([])
  expect(paths(task)).toEqual(['kept.txt'])
})

const workspace = `
import os, socket, subprocess
os.mkfifo('fifo')
socket.socket(socket.AF_UNIX).bind('socket')
os.symlink('/etc/shadow', 'link')
os.symlink('..', 'parent')
os.symlink('loop', 'loop')
subprocess.run(['sudo', 'mknod', 'device', 'b', '254', '0'], check=True)
subprocess.run(['sudo', 'mknod', 'null', 'c', '1', '3'], check=True)
subprocess.run(['sudo', 'sh', '-c', 'echo mine > of-root; chmod 0 of-root; chattr +i of-root'], check=True)
open('good.txt', 'w').write('good')
os.link('good.txt', 'hard')
os.truncate(os.open('sparse', os.O_CREAT | os.O_RDWR), 10 ** 12)
open(b'invalid \\xff', 'w').write('x')
open('line\\nfeed \\x1b[31m', 'w').write('x')
open('back\\\\slash', 'w').write('x')
open('n' * 255, 'w').write('x')
for name in ['CASE', 'case', '-rf', '~', 'con']: open(name, 'w').write(name)
os.makedirs('.git'); open('.git/config', 'w').write('x')
root = os.open('.', os.O_RDONLY)
for depth in range(20):
    os.mkdir('d' * 250, dir_fd=root)
    root = os.open('d' * 250, os.O_RDONLY, dir_fd=root)
    os.close(os.open('file', os.O_CREAT | os.O_WRONLY, dir_fd=root))
`

test('a bad workspace and daemons that go on writing: what is a file comes back, the rest is said to be left out', async () => {
  const script = `cat > /tmp/make.py <<'END'${workspace}END
    python3 /tmp/make.py || exit 1
    for n in 1 2 3; do setsid -f sh -c 'while :; do date; echo x >> daemon.log; sleep 0.1; done'; done
    sudo setsid -f sh -c 'while :; do date; sleep 0.1; done'
    echo done`
  const { task, warnings } = await run(script)
  expect(task).toMatchObject({ status: 'succeeded' })
  const shallow = paths(task).filter((path) => !path.startsWith('ddd'))
  expect(shallow).toEqual(
    [
      '-rf',
      'CASE',
      'case',
      'con',
      'daemon.log',
      'good.txt',
      'hard',
      'line\nfeed \x1b[31m',
      'n'.repeat(255),
      'of-root',
      '~',
    ].toSorted(),
  )
  // Each as deep as a path may be long.
  expect(paths(task).filter((path) => path.startsWith('ddd'))).toHaveLength(13)
  expect(warnings).toEqual([
    '3 files were left out: not a regular file.',
    '3 files were left out: a path too long.',
    '3 files were left out: a name that is not UTF-8 or has a backslash, or a path too long to open.',
    '1 of 25 files did not come back. The results are larger than the limit (results.maxMib).',
  ])
})
