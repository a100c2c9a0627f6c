import type { ApiKey, NewApiKey, User } from '../contracts/user.ts'

export interface Identity {
  /** Makes the owner and its key at first start; `key` is returned only then. */
  ensureOwner(): Promise<{ user: User; key?: string }>
  /** The user of a presented API key, or undefined. */
  authenticate(key: string): Promise<User | undefined>
  createUser(name: string): Promise<User>
  listUsers(): Promise<User[]>
  /** Removes a user and its keys; the owner stays. */
  removeUser(id: string): Promise<void>
  createKey(userId: string, label: string): Promise<NewApiKey>
  listKeys(userId?: string): Promise<ApiKey[]>
  removeKey(id: string): Promise<void>
  isOwner(userId: string): boolean
  /** The name of a user; undefined where there is none. */
  nameOf(userId: string): string | undefined
}
