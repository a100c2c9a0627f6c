import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createClient } from '../../src/client/client.ts'
import type { VivariumClient } from '../../src/client/types.ts'
import { loadConfig } from '../../src/config/load.ts'
import { freePort } from '../support/free-port.ts'
import { MAIN, run } from '../support/orchestrator.ts'
import { startSystemd, type SystemdHost } from './host.ts'

const SERVICE = 'vivarium.service'
/** Counts until it is told to end, however long that takes on this host. */
const PROMPT = 'i=0; until [ -e stop ]; do i=$((i + 1)); echo line $i; sleep 1; done'

/** The units as they are installed; what this test changes is in drop-ins, as a user's changes would be. */
async function install(units: string, port: number): Promise<void> {
  const env = { PATH: process.env['PATH'] ?? '' }
  const installed = await run([process.execPath, MAIN, 'service', 'install', '--to', units], { env })
  expect(installed).toMatchObject({ code: 0, stderr: '' })
  const dropIn = (unit: string, text: string) => {
    mkdirSync(join(units, `${unit}.d`))
    writeFileSync(join(units, `${unit}.d`, 'test.conf'), text)
  }
  const environment = [
    'HOME=/var/lib/vivarium',
    `VIVARIUM_LISTEN=127.0.0.1:${port}`,
    `VIVARIUM_CACHE=${loadConfig().config.cacheDir}`,
    'VIVARIUM_READY_MACHINES=0',
    'VIVARIUM_READY_CLAUDE=0',
  ]
  // This clone may lie in /tmp.
  dropIn(
    SERVICE,
    `[Service]\nPrivateTmp=no\nWatchdogSec=15\n${environment.map((each) => `Environment=${each}\n`).join('')}`,
  )
  dropIn('vivarium.socket', `[Socket]\nListenStream=\nListenStream=127.0.0.1:${port}\n`)
}

/** Sends a signal to the server alone. */
async function signal(systemd: SystemdHost, name: 'KILL' | 'STOP'): Promise<void> {
  await systemd.run('kill', `-${name}`, await systemd.show(SERVICE, 'MainPID'))
}

/** What a task has printed, once it has printed so many lines. */
async function printed({ tasks }: VivariumClient, id: string, lines: number): Promise<string[]> {
  let text = ''
  for await (const event of tasks.follow(id)) {
    if (event.type === 'raw') text += event.text
    if (text.split('\n').length > lines) break
  }
  return text.trim().split('\n')
}

test('under a real systemd a task goes on while its server is restarted, killed and stands still, and clients wait at the socket', async () => {
  await using stack = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-systemd-'))
  stack.defer(() => rmSync(folder, { recursive: true }))
  const [units, state] = [join(folder, 'units'), join(folder, 'state')]
  for (const path of [units, state]) mkdirSync(path)
  const port = await freePort()
  await install(units, port)
  const systemd = stack.use(await startSystemd({ units, state }))

  await systemd.run('systemctl', 'start', 'vivarium.socket', SERVICE)
  expect(await systemd.show(SERVICE, 'ActiveState')).toBe('active')
  expect(await systemd.show(SERVICE, 'StatusText')).toBe(`Dashboard and API at http://127.0.0.1:${port}`)
  const apiKey = readFileSync(join(state, 'owner.key'), 'utf8').trim()
  const client = createClient({ url: `http://127.0.0.1:${port}`, apiKey })
  const { id } = await client.tasks.submit({ agent: 'shell', prompt: PROMPT })
  await printed(client, id, 1)

  const restarted = systemd.run('systemctl', 'restart', SERVICE)
  const waited = client.tasks.get(id) // whenever it comes, it is answered
  await restarted
  expect(await waited).toMatchObject({ id })
  for (const [name, restarts] of [
    ['KILL', '1'],
    ['STOP', '2'],
  ] as const) {
    await signal(systemd, name)
    await expect.poll(() => systemd.show(SERVICE, 'NRestarts'), { timeout: 60_000 }).toBe(restarts)
    expect(await client.tasks.get(id)).toMatchObject({ id, finishedAt: null })
  }

  const { vmId } = await client.tasks.get(id)
  expect(await client.vms.exec(vmId ?? '', { command: 'touch stop' })).toMatchObject({ exitCode: 0 })
  const lines = await printed(client, id, Infinity)
  expect(lines).toEqual(lines.map((_, n) => `line ${n + 1}`))
  expect(await client.tasks.get(id)).toMatchObject({ status: 'succeeded', attempts: 1 })
  await systemd.run('systemctl', 'stop', SERVICE)
  expect(await systemd.show(SERVICE, 'Result')).toBe('success')
  expect(await systemd.run('find', '/run/vivarium', '-name', 'vm_*')).toBe('')
})
