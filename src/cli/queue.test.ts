import { expect, test } from 'vitest'
import { VivariumError } from '../contracts/errors.ts'
import { setUpCli } from './testing/set-up.ts'

const FULL = new VivariumError('queue_full', 'At most 10 tasks can wait.', { retryAfterSeconds: 0 })

test('run says what the task comes after, and whether it may be run again', async () => {
  await using cli = await setUpCli()
  const after = ['t_0123456789ab', 't_ba9876543210']
  const flags = after.flatMap((id) => ['--after', id])
  await cli.vivarium(['run', 'go', '--detach', '--requeue', ...flags])
  expect(cli.tasks.requests.at(-1)).toMatchObject({ after, requeue: true })
  await cli.vivarium(['run', 'go', '--detach'])
  expect(cli.tasks.requests.at(-1)).toEqual(expect.not.objectContaining({ after: expect.anything() }))
})

test('a full queue is asked again when it says so, and the task is queued once', async () => {
  await using cli = await setUpCli()
  cli.tasks.refusals.push(FULL, FULL)
  const { exitCode, stderr } = await cli.vivarium(['run', 'go', '--detach'])
  expect([exitCode, cli.tasks.requests.length]).toEqual([0, 1])
  expect(stderr).toBe('At most 10 tasks can wait. Asking again in 0 s …\n'.repeat(2))
})

test('it is not asked for ever, nor waited for very long', async () => {
  await using cli = await setUpCli()
  cli.tasks.refusals.push(...Array.from({ length: 100 }, () => FULL))
  expect(await cli.vivarium(['run', 'go', '--detach'])).toMatchObject({ exitCode: 2 })
  expect(cli.tasks.refusals).toHaveLength(80)
  cli.tasks.refusals.splice(0, 80, new VivariumError('queue_full', 'Full.', { retryAfterSeconds: 3600 }))
  const { exitCode, stderr } = await cli.vivarium(['run', 'go', '--detach'])
  expect([exitCode, stderr]).toEqual([2, 'error Full.\n'])
})

test('who waits for a place can leave', async () => {
  await using cli = await setUpCli()
  cli.tasks.refusals.push(new VivariumError('queue_full', 'Full.', { retryAfterSeconds: 60 }))
  const leaving = new AbortController()
  const waiting = cli.vivarium(['run', 'go', '--detach'], { signal: leaving.signal })
  await expect.poll(() => cli.tasks.refusals.length).toBe(0)
  leaving.abort()
  expect((await waiting).exitCode).toBe(130)
  expect(cli.tasks.requests).toEqual([])
})

test('a waiting task says why, in the list, alone, and to who watches it', async () => {
  await using cli = await setUpCli()
  cli.tasks.place = { position: 4, reason: 'waiting for 2 GiB: 3 tasks ahead' }
  const running = cli.vivarium(['run', 'go', '--after', 't_0123456789ab'])
  const { id } = await cli.tasks.submitted()
  await cli.tasks.status(id, 'queued', { attempts: 2 })
  expect((await cli.vivarium(['tasks'])).stdout).toMatch(new RegExp(`${id} +queued 4 `))
  const { stdout } = await cli.vivarium(['task', id])
  expect(stdout).toContain('after t_0123456789ab\nattempts 2\nqueue waiting for 2 GiB: 3 tasks ahead\n')
  await cli.tasks.status(id, 'starting', { queue: null })
  await cli.tasks.finish(id)
  expect((await running).stdout).toContain('· waiting for 2 GiB: 3 tasks ahead\n')
})
