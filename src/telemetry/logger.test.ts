import { afterEach, expect, test, vi } from 'vitest'
import { VivariumError } from '../contracts/errors.ts'
import { createLogger } from './logger.ts'

afterEach(() => vi.unstubAllEnvs())

function capture(isTTY: boolean) {
  const lines: string[] = []
  const stream = { isTTY, write: (text: string) => lines.push(text) }
  return { lines, stream }
}

function jsonLine(line: string | undefined): Record<string, unknown> {
  return JSON.parse(line ?? '') as Record<string, unknown>
}

test('writes one JSON object a line when the stream is no terminal', () => {
  const { lines, stream } = capture(false)
  const log = createLogger('info', stream)
  log.child({ taskId: 't_1' }).info({ port: 8080 }, 'ready')
  log.debug('below the level')
  expect(lines).toHaveLength(1)
  expect(lines[0]?.endsWith('\n')).toBe(true)
  expect(jsonLine(lines[0])).toEqual({
    level: 'info',
    time: expect.any(String),
    taskId: 't_1',
    port: 8080,
    msg: 'ready',
  })
})

test('writes for people when the stream is a terminal, an error with its causes', () => {
  const { lines, stream } = capture(true)
  const cause = new Error('disk is full')
  createLogger('debug', stream).error({ err: new VivariumError('storage_failed', 'Not stored.', { cause }) }, 'append')
  const text = lines.join('')
  expect(text).not.toMatch(/^\{/)
  expect(text).toContain('append')
  expect(text).toContain('Not stored.')
  expect(text).toContain('disk is full')
})

test('text from a guest cannot drive the terminal', () => {
  vi.stubEnv('NO_COLOR', '1')
  const { lines, stream } = capture(true)
  createLogger('info', stream).info(
    { name: '\u001b[2J', odd: '\u009b31m' },
    'said \u001b]0;title\u0007 and\nforged line',
  )
  const text = lines.join('')
  expect(text.slice(0, -1)).not.toMatch(/\p{Cc}/u)
})

test.each([false, true])('credentials do not reach the log (terminal: %s)', (isTTY) => {
  const { lines, stream } = capture(isTTY)
  const secret = 'sk-ant-api03-AbCdEf_0123-456789'
  const own = 'vv_0123456789abcdefghjkmnpqrstvwxyz'
  const log = createLogger('debug', stream)
  log.info({ apiKey: 'plain1' }, 'top')
  log.info({ request: { headers: { authorization: 'plain2', 'x-api-key': 'plain3', cookie: 'plain4' } } }, 'nested')
  log.info({ config: { credentials: { oauthToken: 'plain5' } } }, 'config')
  log.warn(`upstream said: ${secret} is wrong`)
  log.child({ argv: ['--key', own] }).error({ err: new Error(`bad ${own}`) }, `Authorization: Bearer ${'t'.repeat(20)}`)
  const text = lines.join('')
  expect(lines).toHaveLength(5)
  for (const hidden of ['plain', secret, own, 'tttttttt']) expect(text).not.toContain(hidden)
  expect(text).toContain('[redacted]')
})
