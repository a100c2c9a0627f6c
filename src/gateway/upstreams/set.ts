import type { UpstreamSetting } from '../../config/schema.ts'
import type { RouteRule } from '../../contracts/network.ts'
import { GITHUB_TOKEN } from '../../contracts/secret.ts'
import type { RegistryUpstream } from '../../registries/upstreams.ts'
import type { Secrets } from '../../vault/types.ts'
import { UpstreamAgents } from './agents.ts'
import type { UpstreamSet } from './serve.ts'
import { ANY_ROUTE, type Injection, type Upstream } from './upstream.ts'

export interface UpstreamSources {
  settings: readonly UpstreamSetting[]
  registries: readonly RegistryUpstream[]
  secrets: Secrets
}

/** Every upstream of this server, each name once: of the settings, built in, of the host's registries, in that order. */
export function upstreamSet({ settings, registries, secrets }: UpstreamSources): UpstreamSet {
  const named = settings.map(ofSetting)
  const all = [...named, ...GITHUB, ...registries.map(ofRegistry)]
  const list = [...new Map(all.toReversed().map((upstream) => [upstream.name, upstream])).values()].toReversed()
  return { list, named: named.map(({ name }) => name), agents: new UpstreamAgents(), secrets }
}

function ofSetting({ name, url, inject, allow }: UpstreamSetting): Upstream {
  const injection: Injection | undefined = inject && { kind: 'secret', required: true, ...inject }
  return { name, url: new URL(url), inject: injection, routes: allow, rewritesBodies: false }
}

/** What git and its large files ask for, of any repository. */
const GIT_ROUTES: RouteRule[] = [
  { method: 'GET', path: '/*/*/info/refs' },
  { method: 'POST', path: '/*/*/git-upload-pack' },
  { method: 'POST', path: '/*/*/git-receive-pack' },
  { method: '*', path: '/*/*/info/lfs/**' },
]

/** Without a stored secret both serve what is public. */
const GITHUB: Upstream[] = [
  {
    name: 'github',
    url: new URL('https://github.com'),
    inject: githubToken('Basic x-access-token:{secret}'),
    routes: GIT_ROUTES,
    rewritesBodies: false,
  },
  {
    name: 'github-api',
    url: new URL('https://api.github.com'),
    inject: githubToken('Bearer {secret}'),
    routes: [ANY_ROUTE],
    rewritesBodies: false,
  },
]

function githubToken(format: string): Injection {
  return { kind: 'secret', header: 'authorization', secret: GITHUB_TOKEN, format, required: false }
}

/** Only reading: the host's own credential may well do more. */
function ofRegistry({ name, origin, path, authorization, rewritesBodies }: RegistryUpstream): Upstream {
  return {
    name,
    url: new URL(origin),
    inject: { kind: 'fixed', header: 'authorization', value: authorization },
    routes: ['GET' as const, 'HEAD' as const].map((method) => ({ method, path: `${path}/**` })),
    rewritesBodies,
  }
}
