import { afterAll, beforeAll, expect, test } from 'vitest'
import { MAIN, startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { startInTerminal } from './support/terminal.ts'

let orchestrator: TestOrchestrator
let vmId = ''

/** A machine kept of a task, which is suspended while nobody uses it. */
beforeAll(async () => {
  const env = { VIVARIUM_MACHINES_SUSPEND_IDLE_SECONDS: '2' }
  orchestrator = await startOrchestrator({ script: { conversations: [] }, env })
  const { tasks } = orchestrator.client
  const { id } = await tasks.submit({ prompt: 'echo kept > note.txt', agent: 'shell', keepVmSeconds: 600 })
  for await (const _ of tasks.follow(id));
  vmId = (await tasks.get(id)).vmId ?? ''
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

async function state() {
  return (await orchestrator.client.vms.get(vmId)).state
}

function suspended() {
  return expect.poll(state, { timeout: 60_000 }).toBe('suspended')
}

test('vivarium shell resumes a machine and is a terminal in it, which follows the size of ours; the machine is not suspended meanwhile; the exit code is passed on', async () => {
  await suspended()
  // Of another kind the prompt would have colours.
  const env = { ...orchestrator.env, TERM: 'vt100' }
  using terminal = startInTerminal([process.execPath, MAIN, 'shell', vmId], env)
  await terminal.until('resuming it')
  await terminal.until('/workspace$ ')
  terminal.type('stty size; echo "$TERM is $(id -un)"; cat note.txt\r')
  await terminal.until('24 80\r\nvt100 is agent\r\nkept\r\n')
  terminal.type('sleep 1000\r')
  await terminal.until('sleep 1000\r\n')
  terminal.type('\x03')
  terminal.type('until [ "$(stty size)" = "50 120" ]; do sleep 0.1; done; sleep 6; echo seen $((1 + 1))\r')
  await terminal.resize(50, 120)
  await terminal.until('seen 2')
  expect(await state()).toBe('ready')
  terminal.type('exit 3\r')
  expect(await terminal.ended()).toEqual({ code: 3, restored: true })
  await suspended()
})

test('vivarium shell in a pipe', async () => {
  const { code, stdout } = await orchestrator.cli(['shell', vmId], { input: 'cat note.txt; tty; exit 4\n' })
  expect({ code, stdout }).toEqual({ code: 4, stdout: 'kept\nnot a tty\n' })
})
