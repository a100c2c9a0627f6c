import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Identity } from '../identity/types.ts'

type NewOwner = Awaited<ReturnType<Identity['ensureOwner']>>

/**
 * The owner's API key for clients on this machine, kept in `owner.key` (mode 0600) of the data folder: made with the owner
 * at first start, and made anew when the file was lost or its key removed.
 */
export async function localKey(home: string, identity: Identity, { user, key }: NewOwner): Promise<string> {
  const file = join(home, 'owner.key')
  const kept = key ?? readKept(file)
  if (kept !== undefined && (await identity.authenticate(kept))?.id === user.id) {
    if (key !== undefined) writeFileSync(file, `${key}\n`, { mode: 0o600 })
    return kept
  }
  const made = await identity.createKey(user.id, 'this machine')
  writeFileSync(file, `${made.key}\n`, { mode: 0o600 })
  return made.key
}

function readKept(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    // No file: a new key is made.
    return undefined
  }
}
