import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TaskEvent } from '../src/contracts/event.ts'
import { startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'
import { startToolServer, type ToolServer } from './support/tool-server.ts'

/** Loopback, but not the address that tools leave their proxy out for. */
const ADDRESS = '127.0.0.2'
const TOKEN = 'ghp_0123456789abcdefghijklmnopqrstuvwxyz'

let stack: AsyncDisposableStack
let server: ToolServer
let orchestrator: TestOrchestrator

beforeAll(async () => {
  await using setUp = new AsyncDisposableStack()
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-tools-test-'))
  setUp.defer(() => rmSync(folder, { recursive: true }))
  server = setUp.use(await startToolServer(ADDRESS, TOKEN))
  const inject = { secret: 'github', format: 'Basic x-access-token:{secret}' }
  const upstreams = [
    // In the place of GitHub's.
    { name: 'github', url: server.url, inject },
    { name: 'github-api', url: server.url, inject: { secret: 'github' } },
    { name: 'packages', url: server.url, inject: { secret: 'github' }, allow: [{ method: 'GET', path: '/**' }] },
  ]
  const config = join(folder, 'vivarium.json')
  writeFileSync(config, JSON.stringify({ upstreams }))
  orchestrator = setUp.use(
    await startOrchestrator({
      script: {
        conversations: [
          conversation('fetch that page', [
            {
              type: 'tool_use',
              name: 'WebFetch',
              input: { url: `${server.url}/page`, prompt: 'summarise what it says' },
            },
            { type: 'text', text: 'It was fetched.' },
          ]),
        ],
      },
      env: { VIVARIUM_CONFIG: config, NODE_EXTRA_CA_CERTS: server.caFile },
    }),
  )
  await orchestrator.client.secrets.set('github', TOKEN)
  stack = setUp.move()
})

afterAll(() => stack?.disposeAsync())

async function run(task: { prompt: string; agent: 'shell' | 'claude-code'; env?: Record<string, string> }) {
  const { id } = await orchestrator.client.tasks.submit({
    ...task,
    memoryMib: 1024,
    timeoutSeconds: 800,
    files: [{ path: 'ca.crt', contentBase64: Buffer.from(server.ca).toString('base64') }],
    network: { allow: [server.host] },
  })
  const events: TaskEvent[] = []
  for await (const event of orchestrator.client.tasks.follow(id)) events.push(event)
  return { task: await orchestrator.client.tasks.get(id), events }
}

const DENIED =
  "Host denied.example is not on this task's allow-list; whoever starts the task can open it with --allow denied.example."

/** Shell that prints `name: last line of output`, or what went wrong. */
const check = (name: string, command: string) =>
  `if out=$( (${command}) 2>&1 ); then echo "${name}: $(printf %s "$out" | tail -n 1)"; else echo "${name} FAILED: $out"; fi`

const nodeFetch = (url: string) =>
  `node -e 'fetch("${url}").then((answer) => answer.text()).then((text) => console.log(text.trim()))'`
const urllib = (url: string) => `python3 -c 'import urllib.request as r; print(r.urlopen("${url}").read().decode())'`

test('the tools of the image reach what is allowed by themselves, and private servers without ever holding a token', async () => {
  const hub = 'http://127.0.0.1:3130'
  const checks: [string, string, string][] = [
    ['curl', `curl -fsS ${server.url}/hello`, 'hello from outside'],
    ['wget', `wget -qO- ${server.url}/hello`, 'hello from outside'],
    ['sudo curl', `sudo curl -fsS ${server.url}/hello`, 'hello from outside'],
    ['node', nodeFetch(`${server.url}/hello`), 'hello from outside'],
    ['python', urllib(`${server.url}/hello`), 'hello from outside'],
    ['git', `git clone -q ${server.url}/open/open.git && cat open/read.me`, 'cloned'],
    [
      'npm',
      `npm install --silent --registry ${server.url}/npm/ hello-open && node -p 'require("hello-open")'`,
      'hello-open',
    ],
    [
      'pip',
      `pip install -q -i ${server.url}/simple hello-open && python3 -c 'import hello_open; print(hello_open.NAME)'`,
      'hello_open',
    ],
    [
      'apt',
      `echo 'deb [trusted=yes] ${server.url}/apt ./' | sudo tee /etc/apt/sources.list.d/test.list
       sudo apt-get update -o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::SourceList=/etc/apt/sources.list.d/test.list
       sudo apt-get install -y vivarium-hello >/dev/null && cat /opt/vivarium-hello`,
      'installed',
    ],
    ['denied', `curl -sS http://denied.example/`, DENIED],
    ['github clone', `git clone -q https://github.com/acme/private.git && cat private/read.me`, 'cloned'],
    ['github by ssh address', `git ls-remote -q git@github.com:acme/private.git main | cut -f 2`, 'refs/heads/main'],
    [
      'github push',
      `cd private && echo pushed > new && git add new && git commit -qm new && git push -q origin main && git config remote.origin.url`,
      'https://github.com/acme/private.git',
    ],
    ['github api', `curl -fsS $GITHUB_API_URL/user`, '{"login":"octocat"}'],
    [
      'private npm',
      `mkdir p && cd p && echo {} >package.json && npm install --silent --registry http://packages.upstream/npm/ --replace-registry-host=${server.host} hello-private && node -p 'require("hello-private")'`,
      'hello-private',
    ],
    [
      'lockfile',
      `grep -o '"resolved": "[^"]*' p/package-lock.json`,
      `"resolved": "${server.url}/npm/hello-private/-/x.tgz`,
    ],
    [
      'private pip',
      `pip install -q -i ${hub}/packages/simple hello-private && python3 -c 'import hello_private; print(hello_private.NAME)'`,
      'hello_private',
    ],
    [
      'no writing',
      `curl -sS -X PUT ${hub}/packages/npm/hello-private`,
      'The upstream packages takes no PUT /npm/hello-private here.',
    ],
    [
      'no token',
      `sudo grep -rlE 'gh[p]_[0-9]{8}' /home /root /etc /workspace /proc/*/environ | grep -v /proc/self | wc -l`,
      '0',
    ],
  ]
  const trust = `sudo cp ca.crt /usr/local/share/ca-certificates/test.crt && sudo update-ca-certificates >/dev/null 2>&1
export NODE_EXTRA_CA_CERTS=$PWD/ca.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt`
  const script = [trust, ...checks.map(([name, command]) => check(name, command))].join('\n')
  const { task, events } = await run({ prompt: script, agent: 'shell' })
  const printed = events.flatMap((event) => (event.type === 'raw' ? [event.text] : [])).join('')
  expect(task.error).toBeNull()
  expect(printed.trim().split('\n')).toEqual(checks.map(([name, , last]) => `${name}: ${last}`))
  const { stdout } = await execa('git', ['-C', server.repository, 'show', 'main:new'])
  expect(stdout).toBe('pushed')
  const egress = events.filter((event) => event.type === 'egress')
  const port = Number(server.host.split(':')[1])
  expect(egress).toContainEqual(
    expect.objectContaining({ host: ADDRESS, port, allowed: true, rule: `allow ${server.host}` }),
  )
  expect(egress).toContainEqual(
    expect.objectContaining({ host: ADDRESS, port, allowed: true, rule: 'upstream github' }),
  )
  expect(egress).toContainEqual(
    expect.objectContaining({ host: 'denied.example', allowed: false, rule: 'deny by default' }),
  )
  expect(JSON.stringify(events)).not.toContain(TOKEN)
  // Twenty programs, one after the other, under emulation.
}, 900_000)

test("Claude's own WebFetch reads an allowed page", async () => {
  const { task, events } = await run({
    prompt: 'fetch that page',
    agent: 'claude-code',
    env: { NODE_EXTRA_CA_CERTS: '/workspace/ca.crt' },
  })
  const results = events.filter((event) => event.type === 'tool_result')
  expect({ error: task.error, results }).toMatchObject({ error: null, results: [{ isError: false }] })
  expect(JSON.stringify(orchestrator.model.requests)).toContain('Fetched page')
})
