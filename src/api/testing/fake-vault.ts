import { VivariumError } from '../../contracts/errors.ts'
import type { AuditEntry, RotateResult, SecretInfo } from '../../contracts/secret.ts'
import type { SecretKeeping, SecretTarget } from '../../vault/types.ts'

/** Secrets by name and owner; keeps no value. */
export class FakeVault implements SecretKeeping {
  readonly #secrets = new Map<string, SecretInfo>()

  async list(userId?: string): Promise<SecretInfo[]> {
    return [...this.#secrets.values()].filter(
      (each) => userId === undefined || each.userId === null || each.userId === userId,
    )
  }

  async set({ userId, name }: SecretTarget): Promise<SecretInfo> {
    const at = new Date().toISOString()
    const info = { name, userId, version: 1, createdAt: at, updatedAt: at, lastUsedAt: null }
    this.#secrets.set(`${userId}/${name}`, info)
    return info
  }

  async remove({ userId, name }: SecretTarget): Promise<void> {
    if (this.#secrets.delete(`${userId}/${name}`)) return
    throw new VivariumError('not_found', `There is no secret "${name}".`)
  }

  async rotate({ master }: { master: boolean }): Promise<RotateResult> {
    return { secrets: this.#secrets.size, master }
  }

  async audit(): Promise<AuditEntry[]> {
    return []
  }

  forgetUser(userId: string): void {
    for (const [key, each] of this.#secrets) if (each.userId === userId) this.#secrets.delete(key)
  }
}
