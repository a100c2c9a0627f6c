import { expect, test } from 'vitest'
import { dropSecrets, loadConfig } from './load.ts'

test('secrets are read from the environment once, and later processes do not inherit them', () => {
  const env: Record<string, string | undefined> = {
    VIVARIUM_HOME: '/nowhere',
    ANTHROPIC_API_KEY: 'secret-1',
    CLAUDE_CODE_OAUTH_TOKEN: 'secret-2',
    VIVARIUM_MASTER_KEY: 'secret-3',
    VIVARIUM_PREVIOUS_MASTER_KEY: 'secret-4',
    CREDENTIALS_DIRECTORY: '/run/credentials/vivarium',
  }
  const { config, origins } = loadConfig({}, undefined, env)
  expect(config.credentials).toEqual({
    apiKey: 'secret-1',
    oauthToken: 'secret-2',
    masterKey: 'secret-3',
    previousMasterKey: 'secret-4',
    directory: '/run/credentials/vivarium',
  })
  const { credentials: _credentials, ...shown } = config
  expect(JSON.stringify([shown, origins])).not.toContain('secret-')
  dropSecrets(env)
  expect(JSON.stringify(env)).not.toContain('secret-')
  expect(env['VIVARIUM_HOME']).toBe('/nowhere')
})
