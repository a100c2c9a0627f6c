import { expect, test } from 'vitest'
import { findCgroupMount } from './cgroup.ts'

test('the v2 hierarchy is found on unified and on hybrid hosts, and missed on none', () => {
  const unified = '30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate'
  const hybrid = [
    '31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    unified.replace('cgroup rw', 'cgroup/unified rw'),
  ]
  expect(findCgroupMount(unified)).toBe('/sys/fs/cgroup')
  expect(findCgroupMount(hybrid.join('\n'))).toBe('/sys/fs/cgroup/unified')
  expect(findCgroupMount(hybrid[0] ?? '')).toBeUndefined()
})
