import { expect, test } from 'vitest'
import { parseMounts, placeOf } from './sandbox-owner.ts'

const MOUNTINFO = String.raw`22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:25 / /run rw,nosuid - tmpfs tmpfs rw
31 30 254:1 /data/run /run/vivarium rw - ext4 /dev/vdb rw
32 30 0:30 / /run/vivarium\040two rw - tmpfs tmpfs rw
33 27 0:31 / /vm rw shared:1 master:2 - tmpfs tmpfs rw`

test('a path lies on the innermost mount that holds it, as parts of names do not', () => {
  const mounts = parseMounts(MOUNTINFO)
  expect(placeOf('/run/vivarium/ab/vm_1', mounts)).toEqual({ device: '254:1', path: '/data/run/ab/vm_1' })
  expect(placeOf('/run/vivarium', mounts)).toEqual({ device: '254:1', path: '/data/run' })
  expect(placeOf('/run/vivarium two/ab', mounts)).toEqual({ device: '0:30', path: '/ab' })
  expect(placeOf('/run/vivariums/ab', mounts)).toEqual({ device: '0:25', path: '/vivariums/ab' })
  expect(placeOf('/srv', mounts)).toEqual({ device: '254:0', path: '/srv' })
  expect(placeOf('/srv', [])).toBeUndefined()
})

test('of two mounts at one point the later counts', () => {
  const mounts = parseMounts(`${MOUNTINFO}\n34 30 0:40 / /run/vivarium rw - tmpfs tmpfs rw`)
  expect(placeOf('/run/vivarium/ab', mounts)).toEqual({ device: '0:40', path: '/ab' })
})
