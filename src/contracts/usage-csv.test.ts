import { expect, test } from 'vitest'
import { usageCsv } from './usage-csv.ts'
import { NO_TOKENS, type UsageRow } from './usage.ts'

const row = (key: string, more: Partial<UsageRow> = {}): UsageRow => ({
  ...NO_TOKENS,
  key,
  requests: 2,
  incomplete: 1,
  unpriced: 0,
  costUsd: 0.0125,
  inputTokens: 1000,
  ...more,
})

test('rows become lines under a head that names them', () => {
  expect(usageCsv([row('2026-11-22', { split: 'claude-opus-5' })], 'day', 'model')).toBe(
    'day,model,requests,inputTokens,outputTokens,cacheReadTokens,cacheWriteTokens,costUsd,incomplete,unpriced\r\n' +
      '2026-11-22,claude-opus-5,2,1000,0,0,0,0.0125,1,0\r\n',
  )
  expect(usageCsv([row('u_1', { name: 'Ada' })], 'user')).toContain('u_1,Ada,2,')
})

test('what an API calls its model can neither break a line nor become a formula', () => {
  const keys = ['a,"b"\r\nc', '=HYPERLINK("http://x")', '@x', '-1']
  const lines = usageCsv(
    keys.map((key) => row(key)),
    'model',
  )
  expect(lines).toContain('"a,""b""\r\nc",2,')
  expect(lines).toContain('"\'=HYPERLINK(""http://x"")",2,')
  expect(lines).toContain("\r\n'@x,2,")
  expect(lines).toContain("\r\n'-1,2,")
})
