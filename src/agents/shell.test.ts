import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { shell } from './shell.ts'
import type { AgentJob } from './types.ts'

const job: AgentJob = {
  prompt: '',
  model: null,
  maxTurns: null,
  env: {},
  credentialKind: undefined,
  sessionId: '',
  resumes: null,
}
const OK = { code: 0, signal: null, outOfMemory: false }

function bash(prompt: string): string {
  const [file = '', ...rest] = shell.spec(job).argv
  return execFileSync(file, rest, { input: shell.input({ ...job, prompt }), encoding: 'utf8' })
}

test('a script of any length runs, and its commands do not eat it', () => {
  expect(bash(`cat; echo after\n${'#'.repeat(1_000_000)}\necho 'it'"'"'s done'`)).toBe("after\nit's done\n")
  expect(() => bash('exit 3')).toThrow(expect.objectContaining({ status: 3 }))
})

test('text is passed on in order with its characters whole', async () => {
  const parser = shell.parser(job)
  const euro = Buffer.from('€')
  expect(await parser.push('stdout', euro.subarray(0, 1))).toEqual([])
  expect(await parser.push('stderr', Buffer.from('warn'))).toEqual([{ type: 'stderr', text: 'warn' }])
  expect(await parser.push('stdout', euro.subarray(1))).toEqual([{ type: 'raw', text: '€' }])
  await parser.push('stdout', euro.subarray(0, 2))
  expect(await parser.end()).toEqual([{ type: 'raw', text: '\uFFFD' }])
})

test('the result is the last 4,000 characters, and a failure names exit code and stderr', async () => {
  const parser = shell.parser(job)
  await parser.push('stdout', Buffer.from('a'.repeat(5000) + 'end'))
  await parser.push('stderr', Buffer.from('no such file\n'))
  const { result, failure } = parser.outcome({ ...OK, code: 2 })
  expect(result).toBe(`${'a'.repeat(3997)}end`)
  expect(failure).toEqual({ code: 'agent_failed', message: 'The script ended with exit code 2: no such file' })
  expect(parser.outcome(OK).failure).toBeUndefined()
})
