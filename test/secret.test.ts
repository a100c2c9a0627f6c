import { createReadStream, globSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { expect, test } from 'vitest'
import { startScriptedModel } from '../scripted-model/server.ts'
import { startComposed, type Composed } from './support/composed.ts'
import { TEST_KEY } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'
import { startToolServer } from './support/tool-server.ts'

/** Said by the model, so certainly in the guest's memory: shows that the search finds what is there. */
const MARKER = 'marker-8d1f5a7c3b904e26'
const GITHUB_TOKEN = 'ghp_Zq4Xv81mTn0bWc63yLkR5sJd2HfGaE97uPiO'

/** Until the test has seen enough. `MARKER` is printed and stored, as it is and as base64 in each of its three places. */
const WORK = `git clone -q https://github.com/acme/private.git && cat private/read.me
curl -fsS $GITHUB_API_URL/user
for before in '' a aa; do printf %s "\${before}${MARKER}:after" | base64 -w0; echo; done > encoded.txt
echo ${MARKER} > said.txt
until [ -e /tmp/enough ]; do sleep 0.2; done`

const script = {
  conversations: [
    conversation('use the model and GitHub', [
      { type: 'text', text: `The model has answered: ${MARKER}.` },
      { type: 'tool_use', name: 'Bash', input: { command: WORK, timeout: 600_000 } },
      { type: 'text', text: 'That is done.' },
    ]),
  ],
}

/** A text as it may lie in memory: plain, in UTF-16, as hexadecimal, and inside of something encoded as base64. */
function formsOf(text: string): Buffer[] {
  const plain = Buffer.from(text)
  // What stands around it changes the characters at either end, and its place in a group of three bytes all of them.
  const encoded = [0, 1, 2].map((before) => {
    const base64 = Buffer.concat([Buffer.alloc(before), plain]).toString('base64')
    return base64.slice(before === 0 ? 0 : 4, -4)
  })
  const forms = [text, plain.toString('hex'), ...encoded, ...encoded.map((each) => each.replace(/\+/g, '-'))]
  return [...new Set(forms)].map((form) => Buffer.from(form)).concat(Buffer.from(text, 'utf16le'))
}

/** Which of the needles a file holds, read as a stream. */
async function foundIn(path: string, needles: Buffer[]): Promise<Set<Buffer>> {
  const found = new Set<Buffer>()
  let tail = Buffer.alloc(0)
  for await (const chunk of createReadStream(path, { highWaterMark: 8 * 1024 * 1024 })) {
    const window = Buffer.concat([tail, chunk as Buffer])
    for (const needle of needles) if (!found.has(needle) && window.includes(needle)) found.add(needle)
    tail = window.subarray(-256)
  }
  return found
}

const secrets = [TEST_KEY, GITHUB_TOKEN].flatMap(formsOf)
const [plainMarker, , ...encodedMarkers] = formsOf(MARKER)

/** Fails where a secret is in a file, in any form; returns how many forms of the marker are. */
async function search(path: string): Promise<number> {
  const markers = [plainMarker ?? Buffer.of(), ...encodedMarkers.slice(0, 3)]
  const found = await foundIn(path, [...secrets, ...markers])
  const leaked = secrets.filter((secret) => found.has(secret)).map(String)
  expect({ path, leaked }).toEqual({ path, leaked: [] })
  return markers.filter((marker) => found.has(marker)).length
}

/** Every file of the data folder and of the machines' folder. */
function filesOf({ config }: Composed): string[] {
  return [config.home, config.runDir]
    .flatMap((folder) => globSync('**', { cwd: folder }).map((name) => join(folder, name)))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true)
}

test('the credentials of the model and of GitHub are nowhere but encrypted after a task has used both', async () => {
  await using stack = new AsyncDisposableStack()
  const model = stack.use(await startScriptedModel({ script, requireKey: TEST_KEY }))
  const server = stack.use(await startToolServer('127.0.0.2', GITHUB_TOKEN))
  const trusted = getCACertificates('default')
  setDefaultCACertificates([...trusted, server.ca])
  stack.defer(() => setDefaultCACertificates(trusted))
  const inject = { secret: 'github', format: 'Basic x-access-token:{secret}' }
  const log: string[] = []
  const composed = stack.use(
    await startComposed({
      settings: {
        upstreams: [
          { name: 'github', url: server.url, inject },
          { name: 'github-api', url: server.url, inject: { secret: 'github' } },
        ],
      },
      env: { VIVARIUM_ANTHROPIC_UPSTREAM: model.url, ANTHROPIC_API_KEY: TEST_KEY },
      onLog: (line) => log.push(line),
    }),
  )
  const { orchestrator, ownerId } = composed
  const client = composed.client(orchestrator.owner.key)
  await client.secrets.set('github', GITHUB_TOKEN)

  const guest = await composed.hold({ prompt: 'use the model and GitHub', memoryMib: 1024 })
  await guest.exec('until [ -s /workspace/said.txt ]; do sleep 0.2; done; sync')
  expect(await guest.exec('cat private/read.me')).toBe('cloned\n')
  const environments = await guest.exec("sudo sh -c 'cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline || true'")
  expect(environments).toContain('ANTHROPIC_BASE_URL')
  expect(secrets.filter((secret) => Buffer.from(environments).includes(secret))).toEqual([])

  const dump = join(composed.config.home, 'memory.elf')
  await orchestrator.machines.get(guest.vmId)?.dumpMemory(dump)
  expect(await search(dump)).toBe(4)
  // qcow2 keeps what the guest wrote as it is, so the file can be searched itself.
  expect(await search(join(composed.config.home, 'machines', guest.vmId, 'scratch.qcow2'))).toBe(4)

  await guest.exec('touch /tmp/enough')
  for await (const event of orchestrator.events.follow(guest.taskId, 1)) {
    expect(secrets.filter((secret) => JSON.stringify(event).includes(secret.toString()))).toEqual([])
  }
  const task = await orchestrator.tasks.get(ownerId, guest.taskId)
  expect([task.status, task.result]).toEqual(['succeeded', 'That is done.'])
  const uses = (await client.secrets.audit()).filter(({ action }) => action === 'use').map(({ name }) => name)
  expect(new Set(uses)).toEqual(new Set(['anthropic-api-key', 'github']))

  const files = filesOf(composed)
  const marked: string[] = []
  for (const path of files) if ((await search(path)) > 0) marked.push(path.slice(composed.config.home.length + 1))
  // The database with its log of writes, and the results: what is searched is where things are.
  expect(marked.filter((path) => path.startsWith('vivarium.db')).length).toBeGreaterThan(0)
  expect(marked.filter((path) => path.startsWith('blobs/')).length).toBeGreaterThan(0)
  const lines = log.join('')
  expect(lines).toContain(guest.vmId)
  expect(secrets.filter((secret) => lines.includes(secret.toString()))).toEqual([])
})
