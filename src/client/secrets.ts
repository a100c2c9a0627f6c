import { AuditList, RotateResult, SecretInfo, SecretList } from '../contracts/secret.ts'
import { type Http, nothing, segment } from './http.ts'
import type { SecretsClient } from './types.ts'

/** Calls about secrets. */
export function secretsClient(http: Http): SecretsClient {
  return {
    list: async (call) => (await http.json(SecretList, 'GET', '/secrets', call)).items,
    set: async (name, value, owner = {}, call = {}) =>
      http.json(SecretInfo, 'PUT', `/secrets/${segment(name)}`, { ...call, json: { value, ...owner } }),
    remove: async (name, { shared, userId } = {}, call = {}) => {
      const query = { shared: shared === undefined ? undefined : String(shared), userId }
      return nothing(http.send('DELETE', `/secrets/${segment(name)}`, { ...call, query }))
    },
    rotate: async (request = {}, call = {}) =>
      http.json(RotateResult, 'POST', '/secrets/rotate', { ...call, json: request }),
    audit: async (query = {}, call = {}) =>
      (await http.json(AuditList, 'GET', '/secrets/audit', { ...call, query })).items,
  }
}
