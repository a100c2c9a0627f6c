import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { setUpCli } from '../testing/set-up.ts'

test('the units are written for the program that runs', async () => {
  await using cli = await setUpCli()
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-units-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const { exitCode, stdout } = await cli.vivarium(['service', 'install', '--to', folder])
  expect(exitCode).toBe(0)
  expect(stdout.trim().split('\n')).toEqual(['vivarium.service', 'vivarium.socket'].map((name) => join(folder, name)))
  const unit = readFileSync(join(folder, 'vivarium.service'), 'utf8')
  expect(unit).toMatch(/^ExecStart=\S*\/vivarium serve$/m)
  expect(unit).not.toContain('/usr/local/bin')
  expect((await cli.vivarium(['service', 'print'])).stdout).toContain(unit)
})

test('a folder that can not be written to is an error in words', async () => {
  await using cli = await setUpCli()
  expect(await cli.vivarium(['service', 'install', '--to', '/etc/passwd/units'])).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/can't be written to \/etc\/passwd/),
  })
})
