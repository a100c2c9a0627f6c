import { chown, mkdir } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { GUEST_USER } from '../../src/link/constants.ts'

/** Gives a path to the agent user, where users are switched at all. */
export async function giveToAgent(path: string, switchUsers: boolean): Promise<void> {
  if (switchUsers) await chown(path, GUEST_USER.uid, GUEST_USER.gid)
}

/** Makes a folder and those above it; the new ones belong to the agent user. */
export async function makeFolder(path: string, switchUsers: boolean): Promise<void> {
  const first = await mkdir(path, { recursive: true })
  if (first === undefined) return
  const made = relative(dirname(first), path).split('/')
  for (let depth = 1; depth <= made.length; depth += 1)
    await giveToAgent(join(dirname(first), ...made.slice(0, depth)), switchUsers)
}
