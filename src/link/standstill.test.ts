import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { startTestAgent, startTestHost } from './testing.ts'
import type { GuestLink } from './types.ts'

const COUNT = 'for i in $(seq 1 40); do echo $i; sleep 0.1; done'
const NUMBERS = Array.from({ length: 40 }, (_, index) => `${index + 1}\n`).join('')

/** A guest goes silent after 0.6 s without an answer to a ping, and is given up `sessionMs` later. */
const host = (sessionMs: number) => startTestHost({ deadlines: { pingMs: 200, sessionMs } })

/** Starts a process that counts; resolves with all that it prints. */
async function count(link: GuestLink): Promise<string> {
  await link.start('x_000000000001', { argv: ['sh', '-c', COUNT], env: {}, cwd: '/', user: 'agent', stdin: 'none' })
  let printed = ''
  for await (const piece of link.output('x_000000000001', 0)) if (piece.kind === 'stdout') printed += String(piece.data)
  return printed
}

test('a guest that is stopped (SIGSTOP) and goes on in time loses nothing', async () => {
  await using house = await host(20_000)
  await using agent = await startTestAgent(house)
  await house.link.hello({ hostname: 'vm-test' }, AbortSignal.timeout(20_000))
  const counted = count(house.link)
  await sleep(500)
  process.kill(agent.pid, 'SIGSTOP')
  await sleep(2500)
  process.kill(agent.pid, 'SIGCONT')
  expect(await counted).toBe(NUMBERS)
  expect(house.controls.length).toBeGreaterThan(1)
})

test('a guest that stays stopped is lost with a sentence that says for how long it was silent', async () => {
  await using house = await host(1000)
  await using agent = await startTestAgent(house)
  await house.link.hello({ hostname: 'vm-test' }, AbortSignal.timeout(20_000))
  const counted = count(house.link)
  process.kill(agent.pid, 'SIGSTOP')
  expect(await house.link.lost).toMatch(/did not answer for 1 s/)
  await expect(counted).rejects.toMatchObject({ code: 'guest_lost' })
  process.kill(agent.pid, 'SIGCONT')
})

test('a guest whose host makes it stand still is waited for, however long that takes', async () => {
  await using house = await host(500)
  await using agent = await startTestAgent(house)
  await house.link.hello({ hostname: 'vm-test' }, AbortSignal.timeout(20_000))
  const counted = count(house.link)
  await sleep(300)
  house.link.halt(true)
  process.kill(agent.pid, 'SIGSTOP')
  await sleep(3000)
  process.kill(agent.pid, 'SIGCONT')
  house.link.halt(false)
  expect(await counted).toBe(NUMBERS)
  expect(house.controls).toHaveLength(1)
})
