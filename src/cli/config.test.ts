import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { palette } from './colour.ts'
import { runCommand } from './program.ts'

const SECRETS = {
  ANTHROPIC_API_KEY: 'secret-1',
  CLAUDE_CODE_OAUTH_TOKEN: 'secret-2',
  VIVARIUM_MASTER_KEY: 'secret-3',
}

/** Runs `vivarium config` with a settings file, and no server. */
async function config(settings: object, env: Record<string, string>, ...flags: string[]) {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-config-'))
  const file = join(home, 'vivarium.json')
  const lines: string[] = []
  try {
    writeFileSync(file, JSON.stringify(settings))
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
    const exitCode = await runCommand(['config', ...flags], {
      stdin: Readable.from([]),
      stdout: nowhere,
      stderr: nowhere,
      env: { VIVARIUM_HOME: home, ...env },
      cwd: '/',
      signal: new AbortController().signal,
      paint: palette(false),
      print: (line) => void lines.push(line),
      note: (line) => void lines.push(line),
    })
    return { exitCode, lines: lines.map((line) => line.replaceAll(home, 'HOME')) }
  } finally {
    rmSync(home, { recursive: true })
  }
}

test('config prints every setting with where it came from', async () => {
  const settings = { log: 'warn', template: { warm: { web: { script: 'make' } } }, ready: { model: 'opus' } }
  const { exitCode, lines } = await config(settings, {
    VIVARIUM_LISTEN: '127.0.0.1:9000',
    VIVARIUM_PRICES: '{"m":{"input":1,"output":2}}',
  })
  expect(exitCode).toBe(0)
  expect(lines).toEqual(
    expect.arrayContaining([
      'listen = {"host":"127.0.0.1","port":9000}  (env VIVARIUM_LISTEN)',
      'log = "warn"  (file HOME/vivarium.json)',
      'engine = "auto"  (default)',
      'template.warm = {"web":{"script":"make","allow":[],"timeoutSeconds":1800}}  (file HOME/vivarium.json)',
      'ready.model = "opus"  (file HOME/vivarium.json)',
      'prices = {"m":{"input":1,"output":2}}  (env VIVARIUM_PRICES)',
      'network.users = {}  (default)',
      'home = "HOME"  (env VIVARIUM_HOME)',
      'ANTHROPIC_API_KEY is not set',
    ]),
  )
})

test('config says that secrets are set, and never what they are', async () => {
  const settings = { anthropic: { upstream: 'https://user:secret-4@proxy.example/v1' } }
  for (const flags of [[], ['--json']]) {
    const { exitCode, lines } = await config(settings, SECRETS, ...flags)
    expect(exitCode).toBe(0)
    expect(lines.join('\n')).not.toContain('secret-')
    expect(lines.join('\n')).toContain('https://***@proxy.example/v1')
  }
  expect((await config(settings, SECRETS)).lines).toContain('VIVARIUM_MASTER_KEY is set')
  const json = JSON.parse((await config(settings, SECRETS, '--json')).lines.join('\n'))
  expect(json).toMatchObject({
    listen: { port: 8080 },
    credentials: { ANTHROPIC_API_KEY: true, CLAUDE_CODE_OAUTH_TOKEN: true, VIVARIUM_PREVIOUS_MASTER_KEY: false },
    origins: { 'anthropic.upstream': 'file HOME/vivarium.json', home: 'env VIVARIUM_HOME' },
  })
})

test('config names the setting that is wrong', async () => {
  expect(await config({ log: 'loud' }, {})).toMatchObject({
    exitCode: 2,
    lines: [expect.stringContaining('"log" (from file')],
  })
})
