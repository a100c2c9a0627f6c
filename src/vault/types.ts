import type { AuditEntry, AuditQuery, RotateResult, SecretInfo } from '../contracts/secret.ts'

/** Whose value counts for a user: their own wins over the shared one. */
export type SecretScope = 'own' | 'shared'

/** What a secret is used for: becomes a line of the audit. */
export interface SecretUse {
  /** The upstream that gets it, e.g. `anthropic`, `github`. */
  purpose: string
  machineId: string
  taskId: string | null
}

/** Whose secret is meant; `userId` null is shared by all users. */
export interface SecretTarget {
  userId: string | null
  name: string
}

/** Secrets for use on behalf of a user: all that the gateway sees of the vault. Changes count at once. */
export interface Secrets {
  /** Where a user's secret of that name comes from, or undefined where there is none. No use, so no line in the audit. */
  scope(userId: string, name: string): SecretScope | undefined
  /**
   * The value, to be sent at once and kept nowhere; undefined where there is none. Each call is one use in the audit: call it
   * for each request. With `scope`, only that one counts.
   */
  use(userId: string, name: string, use: SecretUse, scope?: SecretScope): string | undefined
}

/** What people do with secrets: everything but read them. Calls that write reject with `storage_failed`. */
export interface SecretKeeping {
  /** A user's own and the shared ones; of everybody without `userId`. */
  list(userId?: string): Promise<SecretInfo[]>
  /** Stores a value, in place of the one there may be. `by` is who does it. Rejects with `not_found` where there is no such user. */
  set(target: SecretTarget, value: string, by: string): Promise<SecretInfo>
  /** Rejects with `not_found`. */
  remove(target: SecretTarget, by: string): Promise<void>
  /** Encrypts everything anew; with `master` under a new master key, which only the key file allows (`conflict` otherwise). */
  rotate(options: { master: boolean }, by: string): Promise<RotateResult>
  /** Newest first; `userId` keeps to the lines that concern that user. */
  audit(query: AuditQuery & { userId?: string }): Promise<AuditEntry[]>
  /** A user is gone, and their rows with them. */
  forgetUser(userId: string): void
}

/** Credentials of users, encrypted at rest: never readable back, only usable. */
export interface Vault extends Secrets, SecretKeeping, AsyncDisposable {
  /**
   * Stores a value that came with the environment unless the user has such a secret already. `differs`: there is one, with
   * another value.
   */
  importOnce(target: { userId: string; name: string }, value: string): Promise<'imported' | 'same' | 'differs'>
}
