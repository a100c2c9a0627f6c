import assert from 'node:assert/strict'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { createDiskBlobs } from '../../src/blobs/disk.ts'
import { isConfinedPath } from '../../src/contracts/paths.ts'
import type { Change } from '../../src/link/types.ts'
import { collect } from '../../src/tasks/collect.ts'
import { FakeGuest } from '../../src/tasks/testing/fake-guest.ts'
import { SETTINGS } from '../../src/tasks/testing/fake-house.ts'
import { mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { ELSEWHERE, makeTar } from '../tar.ts'
import type { Harness, Target } from '../target.ts'

const TASK = 't_000000000000'
const NAMES = ['one', 'two', 'two/three', 'ü ber\n', ...ELSEWHERE]
const settings = { ...SETTINGS, maxResultBytes: 6000, maxResultFiles: 6 }

/** A guest that lies about what has changed, and sends something else. */
function guestOf(random: Random): FakeGuest {
  const guest = new FakeGuest()
  guest.changes = random.list(random.size(12), (): Change => {
    const path = random.pick(NAMES)
    const kind = random.pick(['created', 'created', 'changed', 'deleted'] as const)
    const size = random.pick([0, 10, 1000, 5_000_000, 1e15])
    return { path, kind, type: random.chance(0.9) ? 'file' : 'symlink', size }
  })
  for (const name of NAMES) guest.files.set(`/workspace/${name}`, Buffer.alloc(random.size(7000)))
  const tar = makeTar(random, NAMES)
  const sent = random.chance(0.5) ? tar : mutate(tar, random)
  guest.tar = () => Readable.from([sent])
  guest.patch = random.text(8000)
  return guest
}

/** What comes out of a guest onto the host's disk: within its folder and its limits, and as it is told. */
export const collection: Target = {
  name: 'collect',
  generate: (random) => random.bytes(16),
  async open(): Promise<Harness> {
    const folder = await mkdtemp(join(tmpdir(), 'vivarium-fuzz-'))
    const blobs = await createDiskBlobs(join(folder, 'blobs'))
    const files = join(folder, 'blobs/objects/results', TASK, 'files')
    return {
      async run(input) {
        const link = guestOf(new Random(input.toString('hex'))).link()
        const signal = AbortSignal.timeout(5000)
        const collected = await collect({ taskId: TASK, link, blobs, settings, transcriptPath: undefined, signal })
        assert.deepEqual(await readdir(folder), ['blobs'])
        assert.deepEqual(await readdir(join(folder, 'blobs/incoming')), [])
        const stored = await readdir(files, { recursive: true, withFileTypes: true }).catch(() => [])
        const paths = stored.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
        assert.deepEqual(
          paths.map((path) => path.slice(files.length + 1)).toSorted(),
          collected.files.map(({ path }) => path).toSorted(),
        )
        assert.ok(collected.files.every(({ path }) => isConfinedPath(path)))
        assert.ok(collected.files.reduce((sum, { size }) => sum + size, 0) <= settings.maxResultBytes)
        await blobs.removeAll(`results/${TASK}/`)
      },
      [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
    }
  },
}
