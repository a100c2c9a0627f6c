/** For tests: secrets without a vault. */
import type { Secrets, SecretUse } from '../vault/types.ts'

export interface TestSecrets extends Secrets {
  uses: ({ userId: string; name: string } & SecretUse)[]
}

/** The same for every user, as their own; those undefined are not there. */
export function testSecrets(values: Record<string, string | undefined>): TestSecrets {
  const uses: TestSecrets['uses'] = []
  return {
    uses,
    scope: (_userId, name) => (values[name] === undefined ? undefined : 'own'),
    use(userId, name, use, scope = 'own') {
      if (scope !== 'own' || values[name] === undefined) return undefined
      uses.push({ userId, name, ...use })
      return values[name]
    },
  }
}
