import type { NetworkPolicy } from '../contracts/network.ts'
import type { Level } from './policy.ts'

/** What the settings say of the network. */
export interface NetworkSettings {
  /** For every machine. */
  allow: readonly string[]
  /** By user name. */
  users?: Readonly<Record<string, NetworkPolicy>> | undefined
}

export interface LevelsInput {
  settings: NetworkSettings
  /** Names of the upstreams in the settings: naming one there opens it, as it opens the model's API. */
  upstreams: readonly string[]
  /** Undefined for a user that nobody knows any more. */
  userName: string | undefined
  task: NetworkPolicy | undefined
  needsModel: boolean
  /** Whether the task's rules may open private addresses. */
  taskIsTrusted: boolean
}

/** The levels of one machine's policy, from the broadest to the narrowest: settings, the user in the settings, the task. */
export function levelsOf({ settings, upstreams, userName, task, needsModel, taskIsTrusted }: LevelsInput): Level[] {
  const { users = {} } = settings
  const user = userName !== undefined && Object.hasOwn(users, userName) ? users[userName] : undefined
  const named = ['anthropic', ...upstreams.map((name) => `upstream:${name}`)]
  return [
    { allow: [...named, ...settings.allow], upstreams: {}, isTrusted: true },
    { allow: user?.allow ?? [], upstreams: user?.upstreams ?? {}, isTrusted: true },
    {
      allow: [...(needsModel ? ['anthropic'] : []), ...(task?.allow ?? [])],
      upstreams: task?.upstreams ?? {},
      isTrusted: taskIsTrusted,
    },
  ]
}
