/** Field names whose values never reach the log, at any of the depths that `redactPaths` covers. */
const SECRET_KEYS = [
  'apiKey',
  'api_key',
  'authorization',
  'Authorization',
  'cookie',
  'credential',
  'credentials',
  'masterKey',
  'oauthToken',
  'password',
  'proxy-authorization',
  'secret',
  'set-cookie',
  'token',
  'x-api-key',
  'ANTHROPIC_API_KEY',
  'CLAUDE_CODE_OAUTH_TOKEN',
  'VIVARIUM_API_KEY',
  'VIVARIUM_MASTER_KEY',
]

export const REDACTED = '[redacted]'

/** Paths in pino's syntax: every secret key at the top of a line and up to two levels below. */
export function redactPaths(): string[] {
  return SECRET_KEYS.map((key) => `["${key}"]`).flatMap((key) => [key, `*${key}`, `*.*${key}`])
}

/** Our keys, Anthropic's, GitHub's, and bearer tokens: recognisable by shape wherever they stand, also inside an error's message. */
const SECRET_SHAPES = /\b(vv_|sk-ant-|gh[oprsu]_|github_pat_|Bearer )[\w.~+/-]{8,}={0,2}/g

/** A finished log line with everything that looks like a credential removed. */
export function scrub(line: string): string {
  return line.replace(SECRET_SHAPES, (_, prefix: string) => prefix + REDACTED)
}
