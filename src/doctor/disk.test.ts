import { join } from 'node:path'
import { expect, test } from 'vitest'
import { canMount, mountSmallDisk } from '../store/testing/small-disk.ts'
import { checkDisk } from './disk.ts'

const storage = { minFreeMib: 1, patienceSeconds: 1 }

test.skipIf(!canMount)('a full data folder keeps tasks from running, and so does a read-only one', async () => {
  using disk = mountSmallDisk({ kib: 4096 })
  const home = join(disk.path, 'not', 'made', 'yet')
  expect(await checkDisk({ home, storage })).toMatchObject({ status: 'warning', detail: expect.stringContaining(home) })
  disk.fill()
  const full = { status: 'missing', detail: expect.stringContaining('storage.minFreeMib') }
  expect(await checkDisk({ home, storage })).toMatchObject(full)
  using readOnly = mountSmallDisk({ kib: 4096, readOnly: true })
  const refused = { status: 'missing', detail: expect.stringMatching(/can't be written.*read-only/) }
  expect(await checkDisk({ home: readOnly.path, storage })).toMatchObject(refused)
})
