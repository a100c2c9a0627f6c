import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { extract } from 'tar-stream'
import { receiveArchive } from '../../src/tasks/receive-archive.ts'
import { expectMisbehaviour } from '../expect.ts'
import { cut, mutate } from '../mutate.ts'
import { Random } from '../random.ts'
import { makeTar } from '../tar.ts'
import { CUT_BYTES, simpleTarget } from '../target.ts'

const NAMES = ['one', 'two/three', `long/${'x'.repeat(120)}`, 'ü ber\n', 'A']
const LIMITS = { wanted: new Set<string>(NAMES), maxFileBytes: 2500, maxBytes: 100_000 }

type Files = Map<string, string>

/** What our reader takes, and why it stopped before the end. */
async function take(bytes: Buffer, random: Random): Promise<{ files: Files; failure: unknown }> {
  const files: Files = new Map()
  try {
    await receiveArchive(Readable.from(cut(bytes, random)), LIMITS, async (path, content) => {
      assert.ok(LIMITS.wanted.has(path) && !files.has(path), 'a file that nobody asked for, or twice')
      assert.ok(content.length <= LIMITS.maxFileBytes)
      files.set(path, content.toString('hex'))
    })
    return { files, failure: undefined }
  } catch (failure) {
    if (failure instanceof assert.AssertionError) throw failure
    return { files, failure }
  }
}

/** What another reader finds. Undefined where it finds fault, or the archive has parts that ours has no use for. */
async function takeWith(bytes: Buffer): Promise<Files | undefined> {
  const files: Files = new Map()
  const unpack = Readable.from([bytes]).pipe(extract())
  try {
    for await (const entry of unpack) {
      const { type, size = 0 } = entry.header
      const name = entry.header.name.replace(/^\.\//, '')
      if (type === 'file' && size <= LIMITS.maxFileBytes && LIMITS.wanted.has(name) && !files.has(name))
        files.set(name, (await buffer(entry)).toString('hex'))
      else entry.resume()
    }
    return /[gLKS5]/.test(types(bytes)) ? undefined : files
  } catch {
    return undefined
  }
}

function types(bytes: Buffer): string {
  return Array.from({ length: Math.floor(bytes.length / 512) }, (_, block) =>
    String.fromCharCode(bytes[block * 512 + 156] ?? 0),
  ).join('')
}

/** Archives from a guest: only what was asked for comes out, once each, as another reader finds it, however the stream is cut. */
export const tar = simpleTarget({
  name: 'tar',
  generate(random) {
    const bytes = makeTar(random, NAMES)
    const changed = random.chance(0.4) ? bytes : mutate(bytes, random, [makeTar(random, NAMES)])
    return Buffer.concat([random.bytes(CUT_BYTES), changed])
  },
  async run(input) {
    const bytes = input.subarray(CUT_BYTES)
    const { files, failure } = await take(bytes, new Random(input.toString('hex', 0, CUT_BYTES)))
    if (failure !== undefined) return expectMisbehaviour(failure)
    const others = await takeWith(bytes)
    if (others !== undefined) assert.deepEqual(files, others)
  },
})
