import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createApp } from '../../api/app.ts'
import { listen } from '../../api/listen.ts'
import { fakeOptions, fakeServices } from '../../api/testing/fake-services.ts'
import { palette } from '../colour.ts'
import type { Io } from '../io.ts'
import { runCommand } from '../program.ts'

let stack: AsyncDisposableStack
let url: string
/** Values that reached the server, in order. */
let stored: { name: string; userId: string | null; value: string }[]
let fakes: ReturnType<typeof fakeServices>

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  fakes = fakeServices()
  stored = []
  const { vault } = fakes.services
  const set = vault.set.bind(vault)
  vault.set = (target, value, by) => {
    stored.push({ ...target, value })
    return set(target, value, by)
  }
  const server = await listen(
    createApp(fakes.services, fakeOptions).fetch,
    { host: '127.0.0.1', port: 0 },
    { anyPort: false },
  )
  stack.use(server)
  url = server.url
})

afterEach(() => stack.disposeAsync())

interface Stdin extends PassThrough {
  isTTY?: boolean
  setRawMode?: (raw: boolean) => void
}

async function cli(args: string[], stdin: Stdin, key = 'vv_owner') {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const io: Io = {
    stdin,
    stdout,
    stderr,
    env: { VIVARIUM_URL: url, VIVARIUM_API_KEY: key },
    cwd: '/',
    signal: new AbortController().signal,
    paint: palette(false),
    print: (line) => void stdout.write(`${line}\n`),
    note: (line) => void stderr.write(`${line}\n`),
  }
  const code = await runCommand(args, io)
  stdout.end()
  stderr.end()
  return { code, stdout: await text(stdout), stderr: await text(stderr) }
}

function piped(content: string): PassThrough {
  return new PassThrough().end(content)
}

test('a value comes from standard input, without its last line break, and is printed nowhere', async () => {
  const outcome = await cli(['secret', 'set', 'github'], piped('ghp_value\n'))
  expect(outcome).toMatchObject({ code: 0, stdout: 'github stored\n', stderr: '' })
  expect(stored).toEqual([{ name: 'github', userId: fakes.identity.owner.id, value: 'ghp_value' }])
  const { stdout } = await cli(['secret', 'list', '--json'], piped(''))
  expect(JSON.parse(stdout)).toMatchObject([{ name: 'github', version: 1 }])
  expect(stdout).not.toContain('ghp_value')
})

test('at a terminal the value is asked for and not echoed; giving up stores nothing', async () => {
  const modes: boolean[] = []
  const terminal = () => {
    const stdin: Stdin = new PassThrough()
    stdin.isTTY = true
    stdin.setRawMode = (raw) => void modes.push(raw)
    return stdin
  }
  const typing = terminal()
  typing.write('ghp_typex\u007fd\r')
  const outcome = await cli(['secret', 'set', 'github'], typing)
  expect(outcome).toMatchObject({ code: 0, stderr: 'Value of github (not shown): \n' })
  expect(outcome.stdout).not.toContain('ghp_')
  expect(stored.map(({ value }) => value)).toEqual(['ghp_typed'])
  expect(modes).toEqual([true, false])

  const leaving = terminal()
  leaving.write('ghp_half\u0003')
  expect(await cli(['secret', 'set', 'github'], leaving)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('nothing is stored'),
  })
  expect(stored).toHaveLength(1)
})

test('the owner stores for all and for others, nobody else does', async () => {
  await cli(['secret', 'set', 'npm', '--shared'], piped('a'))
  await cli(['secret', 'set', 'npm', '--user', 'ada'], piped('b'))
  expect(stored.map(({ userId }) => userId)).toEqual([null, fakes.identity.ada.id])
  const refused = await cli(['secret', 'set', 'npm', '--shared'], piped('c'), 'vv_ada')
  expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining('Only the owner')])
  expect(stored).toHaveLength(2)
  const { stdout } = await cli(['secret', 'list'], piped(''))
  expect(stdout).toMatch(/npm +shared +1/)
  expect(stdout).toMatch(/npm +ada +1/)
  expect(await cli(['secret', 'rm', 'npm', '--user', 'ada'], piped(''))).toMatchObject({ code: 0 })
  expect(await cli(['secret', 'rm', 'npm', '--user', 'ada'], piped(''))).toMatchObject({ code: 2 })
})

test('a value is never taken from the command line', async () => {
  const outcome = await cli(['secret', 'set', 'github', 'ghp_value'], piped(''))
  expect(outcome.code).toBe(2)
  expect(stored).toEqual([])
})
