import { expect, test } from 'vitest'
import { holdOf } from './rate-limit.ts'

const NOW = new Date('2026-11-22T12:00:00Z')
const SECONDS = NOW.getTime() / 1000
const until = (headers: Record<string, string>, message = '') => holdOf(headers, message, NOW)?.until.toISOString()

test('an account that says when it resets is held until then, by the word that is surest', () => {
  const at = (seconds: number) => new Date((SECONDS + seconds) * 1000).toISOString()
  expect(until({ 'anthropic-ratelimit-unified-reset': `${SECONDS + 3600}`, 'retry-after': '90' })).toBe(at(3600))
  expect(until({ 'retry-after': '90' }, `Claude AI usage limit reached|${SECONDS + 7200}`)).toBe(at(90))
  expect(until({ 'retry-after': 'Sun, 22 Nov 2026 13:00:00 GMT' })).toBe(at(3600))
  expect(until({}, `Claude AI usage limit reached|${SECONDS + 7200}`)).toBe(at(7200))
})

test('a window that is not the one used up holds nothing', () => {
  const open = {
    'anthropic-ratelimit-unified-status': 'allowed',
    'anthropic-ratelimit-unified-reset': `${SECONDS + 999}`,
  }
  expect(until(open)).toBeUndefined()
  expect(until({ ...open, 'anthropic-ratelimit-unified-status': 'rejected' })).toBeDefined()
})

test('short waits are left to the agent, and nonsense is not believed', () => {
  const nonsense = ['59', '-1', '99999999999', 'soon', '', `${SECONDS}`, '1e9', 'Sun, 22 Nov 2099 13:00:00 GMT']
  for (const value of nonsense) expect(until({ 'retry-after': value })).toBeUndefined()
  for (const value of ['17699904000000', 'NaN', `${SECONDS - 5}`, '9999999999'])
    expect(until({ 'anthropic-ratelimit-unified-reset': value }, `limit reached|${value}`)).toBeUndefined()
})
