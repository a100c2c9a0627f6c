import { expect, test } from 'vitest'
import { MachineRequest } from '../contracts/machine.ts'
import { TaskRequest } from '../contracts/task.ts'
import { setUpCli } from './testing/set-up.ts'

test('run says where to start, what to go on from, and how long to keep the machine', async () => {
  await using cli = await setUpCli()
  const cases: [string[], object][] = [
    [['--template', 'web', '--continue', 't_0123456789ab', '--keep-vm', '60'], { template: 'web', keepVmSeconds: 60 }],
    [['--continue', 't_0123456789ab', '--keep-vm'], { continues: 't_0123456789ab', keepVmSeconds: 3600 }],
  ]
  for (const [flags, request] of cases) {
    expect(await cli.vivarium(['run', 'go', '--detach', ...flags])).toMatchObject({ exitCode: 0 })
    expect(cli.tasks.requests.at(-1)).toMatchObject({ prompt: 'go', ...request })
  }
})

test('a --keep-vm that swallowed the prompt says how to write it', async () => {
  await using cli = await setUpCli()
  const { exitCode, stderr } = await cli.vivarium(['run', '--keep-vm', 'Write a poem'])
  expect(exitCode).toBe(2)
  expect(stderr).toContain('not "Write a poem": write --keep-vm=3600')
  expect(cli.tasks.requests).toEqual([])
})

test('a kept machine is named when its task has ended, with what it is good for', async () => {
  await using cli = await setUpCli()
  const running = cli.vivarium(['run', 'go', '--keep-vm'])
  const { id, userId } = await cli.tasks.submitted()
  const vm = await cli.machines.create(userId, MachineRequest.parse({}))
  cli.machines.change(vm.id, { taskId: id, keepUntil: '2026-12-01T00:00:00.000Z' })
  await cli.tasks.finish(id, 'succeeded', { vmId: vm.id })
  const { stderr } = await running
  expect(stderr).toContain(`${vm.id} is kept until 2026-12-01T00:00:00.000Z`)
  expect(stderr).toContain(`vivarium run --continue ${id}`)
})

test('machines are suspended and resumed, listed with where they came from, and resumed by being used, which is said', async () => {
  await using cli = await setUpCli()
  const { id } = await cli.machines.create(cli.identity.owner.id, MachineRequest.parse({ template: 'web' }))
  expect((await cli.vivarium(['suspend', id])).stdout).toBe(`${id} suspended\n`)
  const { stdout } = await cli.vivarium(['vms'])
  expect(stdout).toMatch(/^VM +STATE .* FROM +TEMPLATE +KEPT UNTIL/)
  expect(stdout).toMatch(new RegExp(`${id} +suspended .* template +web`))
  expect((await cli.vivarium(['exec', id, '--', 'true'])).stderr).toBe(`${id} is suspended: resuming it …\n`)
  expect((await cli.vivarium(['resume', id])).stdout).toBe(`${id} ready\n`)
  expect((await cli.vivarium(['exec', id, '--', 'true'])).stderr).toBe('')
})

test('a template is built with its progress on stderr, listed, and removed', async () => {
  await using cli = await setUpCli()
  const built = await cli.vivarium(['template', 'build', 'web', '--memory', '1024', '--vcpus', '4', '--rebuild'])
  expect(built).toMatchObject({ exitCode: 0, stdout: 'web is ready: 1024 MiB, 4 vCPU, 600.0 MiB on disk\n' })
  expect(built.stderr).toBe('boot 25% …\n')
  expect(cli.templates.requests).toEqual([{ name: 'web', memoryMib: 1024, vcpus: 4, rebuild: true }])
  expect(JSON.parse((await cli.vivarium(['template', 'list', '--json'])).stdout)).toMatchObject([{ name: 'web' }])
  expect((await cli.vivarium(['template', 'list'])).stdout).toMatch(/web +1024 MiB +4 +ready +600\.0 MiB/)
  expect((await cli.vivarium(['template', 'rm', 'web'])).stdout).toBe('web removed\n')
  expect(await cli.vivarium(['template', 'rm', 'web'])).toMatchObject({ exitCode: 2, stderr: /no template web/ })
})

test('a fork follows all attempts to their end and shows them side by side', async () => {
  await using cli = await setUpCli()
  const { id } = await finished(cli)
  const forking = cli.vivarium(['fork', id, '--count', '2', '--max-cost', '0.5', 'another way'])
  await expect.poll(() => cli.tasks.requests.length).toBe(3)
  expect(cli.tasks.requests.slice(1)).toEqual(
    Array(2).fill(expect.objectContaining({ prompt: 'another way', continues: id, fork: true, maxCostUsd: 0.5 })),
  )
  const [second, first] = (await cli.tasks.list(cli.identity.owner.id, { continues: id, limit: 50 })).items
  const startedAt = new Date(Date.now() - 60_000).toISOString()
  const finishedAt = new Date(Date.parse(startedAt) + 12_340).toISOString()
  await cli.tasks.finish(second?.id ?? '', 'failed', { turns: 9 })
  await cli.tasks.finish(first?.id ?? '', 'succeeded', {
    startedAt,
    finishedAt,
    costUsd: 0.25,
    turns: 3,
    hasPatch: true,
  })
  const { exitCode, stdout, stderr } = await forking
  expect(exitCode).toBe(0)
  const [heading, one, two] = stdout.split('\n').map((line) => line.split(/ {2,}/))
  expect(heading).toEqual(['TASK', 'STATUS', 'TIME', 'COST', 'TURNS', 'FILES', 'LINES'])
  expect(one).toEqual([first?.id, 'succeeded', '12.3 s', '$0.2500', '3', '1', '+0 -0'])
  expect(two).toEqual([second?.id, 'failed', '–', '$0.0000', '9', '0', '+0 -0'])
  expect(stderr).toContain(`${first?.id} · succeeded`)
})

test('an interrupted fork cancels every attempt', async () => {
  await using cli = await setUpCli()
  const { id } = await finished(cli)
  const interrupt = new AbortController()
  const forking = cli.vivarium(['fork', id, '--count', '3', 'x'], { signal: interrupt.signal })
  await expect.poll(() => cli.log.readers).toBe(3)
  interrupt.abort(new Error('stopped'))
  expect(await forking).toMatchObject({ exitCode: 130 })
  expect(cli.tasks.cancelled).toHaveLength(3)
})

test('one task alone is compared by its forks, and where it has none it is said how to make some', async () => {
  await using cli = await setUpCli()
  const { id } = await finished(cli)
  const none = await cli.vivarium(['compare', id])
  expect(none).toMatchObject({ exitCode: 2, stderr: expect.stringContaining(`vivarium fork ${id} --count 3`) })
  const ids = (await cli.vivarium(['fork', id, '--detach', 'x'])).stdout.trim().split('\n')
  for (const each of ids) await cli.tasks.finish(each, 'succeeded', { hasPatch: true })
  const compared = JSON.parse((await cli.vivarium(['compare', id, '--json'])).stdout)
  expect(compared).toEqual(
    ids.map((each) => expect.objectContaining({ id: each, changes: { files: 1, added: 0, removed: 0 } })),
  )
  const { stdout } = await cli.vivarium(['compare', ...ids, '--diff'])
  expect(stdout.split('diff --git a/a b/a')).toHaveLength(3)
})

async function finished({ tasks, identity }: Awaited<ReturnType<typeof setUpCli>>) {
  const task = await tasks.submit(identity.owner.id, TaskRequest.parse({ prompt: 'first' }))
  await tasks.finish(task.id)
  return task
}
