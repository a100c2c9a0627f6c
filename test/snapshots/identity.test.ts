import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:https'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startOrchestrator, type TestOrchestrator } from '../support/orchestrator.ts'

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({
    script: { conversations: [] },
    env: { VIVARIUM_MACHINES_MAX_MACHINES: '8', VIVARIUM_MACHINES_VCPUS_PER_CORE: '16' },
  })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

const MACHINES = 50
const AT_ONCE = 4

/** Claude Code, which names its own session, takes as long as everything else together: it is asked in every fifth machine. */
const CLAUDE_EVERY = 5

/** Values that no two machines may share, one a line: name, blank, value. In one program: each start of one takes long in a machine just restored. */
const VALUES = `
python3 -S -E -c '
import os
kernel = "/proc/sys/kernel/"
files = [("boot", kernel + "random/boot_id"), ("uuid", kernel + "random/uuid"), ("host", kernel + "hostname"), ("machine", "/etc/machine-id")]
for name, path in files: print(name, open(path).read().strip())
print("random", open("/dev/urandom", "rb", 0).read(16).hex())
print("getrandom", os.getrandom(16).hex())'
`

/** Without a credential Claude ends at once, and says its session's name. */
const SESSION = `
env -u ANTHROPIC_API_KEY claude -p hello --output-format stream-json --verbose </dev/null 2>/dev/null |
  grep -m1 -o '"session_id":"[^"]*"' | sed 's/"session_id":"\\(.*\\)"/session \\1/'
`

async function valuesOfOne(withClaude: boolean): Promise<string[]> {
  const { vms } = orchestrator.client
  const { id, startedFrom } = await vms.create()
  expect(startedFrom).toBe('template')
  const { stdout, stderr } = await vms.exec(id, {
    command: withClaude ? VALUES + SESSION : VALUES,
    timeoutSeconds: 300,
  })
  await vms.destroy(id)
  const values = stdout.trim().split('\n')
  const names = values.map((line) => line.split(' ')[0]).join(' ')
  const expected = `boot uuid host machine random getrandom${withClaude ? ' session' : ''}`
  expect({ names, stderr }).toEqual({ names: expected, stderr: '' })
  return values
}

test('50 machines of one template share no boot id, uuid, random bytes, host name, machine id or Claude session', async () => {
  const values: string[] = []
  let left = MACHINES
  const lane = async () => {
    while (left-- > 0) values.push(...(await valuesOfOne(left % CLAUDE_EVERY === 0)))
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
  expect(values).toHaveLength(MACHINES * 6 + MACHINES / CLAUDE_EVERY)
  // Not by name: a value must not be another one's under another name either.
  expect(new Set(values.map((line) => line.split(' ')[1])).size).toBe(values.length)
}, 1_200_000)

test("a restored machine's clock is right before its first work: a certificate made after the template is valid", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '1',
      '-keyout',
      key,
      '-out',
      cert,
      ...subject,
    ],
    { stdio: 'ignore' },
  )
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) =>
    response.end('hello\n'),
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const { vms } = orchestrator.client
  try {
    const { id } = await vms.create({ network: { allow: [`localhost:${port}`] } })
    await vms.writeFile(id, '/workspace/ca.pem', readFileSync(cert))
    const command = `date +%s.%N; curl -sS --cacert ca.pem --proxy $HTTPS_PROXY --noproxy '' https://localhost:${port}/`
    const before = Date.now()
    const answer = await vms.exec(id, { command, timeoutSeconds: 120 })
    expect(answer).toMatchObject({ exitCode: 0, stderr: '' })
    const [seconds, body] = answer.stdout.trim().split('\n')
    expect(body).toBe('hello')
    expect(Number(seconds) * 1000).toBeGreaterThan(before - 1000)
    expect(Number(seconds) * 1000).toBeLessThan(Date.now() + 1000)
    await vms.destroy(id)
  } finally {
    server.close()
    rmSync(folder, { recursive: true })
  }
})
