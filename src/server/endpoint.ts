import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/** Where a running orchestrator is found by clients of the same data folder. */
export const Endpoint = z.object({
  url: z.url(),
  /** The owner's API key, hence mode 0600. */
  key: z.string(),
  pid: z.int(),
})
export type Endpoint = z.infer<typeof Endpoint>

const fileOf = (home: string) => join(home, 'server.json')

/** Takes back what a killed orchestrator announced: its port may be somebody else's by now. */
export function withdraw(home: string): void {
  rmSync(fileOf(home), { force: true })
}

/** Announces a listening orchestrator; the file is removed by disposing, and when the process exits before that. */
export function announce(home: string, endpoint: Endpoint): Disposable {
  const file = fileOf(home)
  writeFileSync(`${file}.tmp`, JSON.stringify(endpoint), { mode: 0o600 })
  renameSync(`${file}.tmp`, file)
  const end = () => withdraw(home)
  process.once('exit', end)
  return {
    [Symbol.dispose]() {
      process.off('exit', end)
      end()
    },
  }
}

/** The announced orchestrator of a data folder, or undefined. It may have been killed since: ask its `/health`. */
export function findEndpoint(home: string): Endpoint | undefined {
  try {
    return Endpoint.parse(JSON.parse(readFileSync(fileOf(home), 'utf8')))
  } catch {
    // Absent, half-written by an older version, or not ours to read: for a client each means "no server here".
    return undefined
  }
}
