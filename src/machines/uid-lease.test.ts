import { expect, test } from 'vitest'
import { isLeasable, isMapped, leaseUid, UID_RANGE } from './uid-lease.ts'

test('a lease is in the range of machines and never a taken one', async () => {
  const all = Array.from({ length: UID_RANGE.count }, (_, index) => UID_RANGE.first + index)
  const free = all.at(4321)
  const uid = await leaseUid(new Set(all.filter((uid) => uid !== free)))
  expect(uid).toBe(free)
  expect([isLeasable(uid), isLeasable(0), isLeasable(UID_RANGE.first + UID_RANGE.count)]).toEqual([true, false, false])
})

test('when every uid is taken the refusal says so', async () => {
  const all = Array.from({ length: UID_RANGE.count }, (_, index) => UID_RANGE.first + index)
  await expect(leaseUid(new Set(all))).rejects.toMatchObject({ code: 'engine_failed' })
})

test('in a container that maps few uids none is leased', () => {
  expect(isMapped('         0          0 4294967295\n', UID_RANGE.first)).toBe(true)
  expect(isMapped('0 100000 65536\n', UID_RANGE.first)).toBe(false)
  expect(isMapped('', UID_RANGE.first)).toBe(false)
})
