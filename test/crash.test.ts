import { expect, test } from 'vitest'
import { campaign } from '../crash/campaign.ts'

/** Printed with a failure: `npm run crash-test -- --seed N --kills 21` repeats it. */
const SEED = Date.now() % 1_000_000

test('an orchestrator that is killed again and again loses nothing, doubles nothing and leaves nothing', async () => {
  const { violations, kills } = await campaign({ seed: SEED, kills: 21, say: () => {} })
  expect(violations, `seed ${SEED}`).toEqual([])
  expect(Object.values(kills).reduce((sum, times) => sum + times, 0)).toBe(21)
}, 900_000)
