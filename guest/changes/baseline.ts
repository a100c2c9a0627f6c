import { createReadStream, createWriteStream, type BigIntStats } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { BaselineRequest } from '../../src/link/protocol.ts'
import { Refusal } from '../http.ts'
import { messageOf } from '../log.ts'

/** What tells an entry from its later self. Written to files: an agent that is restarted must still know what was before. */
export interface Baseline {
  request: BaselineRequest
  /** Signature by path. */
  entries: Map<string, string>
}

function files(stateDir: string) {
  return { request: join(stateDir, 'baseline.json'), entries: join(stateDir, 'baseline.entries') }
}

/** A file's or symlink's signature; undefined for what is neither. */
export function signature(stat: BigIntStats): string | undefined {
  if (!stat.isFile() && !stat.isSymbolicLink()) return undefined
  return [stat.mode, stat.size, stat.mtimeNs, stat.ctimeNs, stat.ino].join(':')
}

/** Replaces the baseline. `entries` are path and signature. */
export async function writeBaseline(
  stateDir: string,
  request: BaselineRequest,
  entries: AsyncIterable<{ path: string; mark: string }>,
): Promise<void> {
  const paths = files(stateDir)
  // The request is what makes a baseline: gone first, back last.
  await rm(paths.request, { force: true })
  async function* records() {
    // A path may hold a line feed, never NUL.
    for await (const { path, mark } of entries) yield `${mark} ${path}\0`
  }
  await pipeline(Readable.from(records()), createWriteStream(paths.entries))
  await writeFile(paths.request, JSON.stringify(request))
}

/** What the last baseline was asked for; a Refusal when there is none. */
export async function readBaselineRequest(stateDir: string): Promise<BaselineRequest> {
  try {
    return JSON.parse(await readFile(files(stateDir).request, 'utf8')) as BaselineRequest
  } catch (error) {
    throw new Refusal(404, `there is no baseline: ${messageOf(error)}`)
  }
}

export async function readBaseline(stateDir: string): Promise<Baseline> {
  const request = await readBaselineRequest(stateDir)
  const entries = new Map<string, string>()
  let rest = ''
  for await (const chunk of createReadStream(files(stateDir).entries, { encoding: 'utf8' }) as AsyncIterable<string>) {
    const records = (rest + chunk).split('\0')
    rest = records.pop() ?? ''
    for (const record of records) {
      const space = record.indexOf(' ')
      entries.set(record.slice(space + 1), record.slice(0, space))
    }
  }
  return { request, entries }
}
