import { z } from 'zod'

/** What an upstream is called: the first part of its address in a guest, `http://127.0.0.1:3130/NAME/`. */
export const UpstreamName = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,39}$/, 'must be a name of a-z, 0-9 and "-", beginning with a letter')

/**
 * An exact host name, `*.suffix`, or either with `:port` (without one: 80 and 443); an IP address must be named exactly.
 * Matching ignores case. Or a preset, which stands for several rules: `packages`, `github`, `anthropic`, `all`, `none`; a host of
 * such a name is written with its port (`github:443`). Or `upstream:NAME`.
 */
export const HostRule = z
  .string()
  .max(262)
  .regex(
    /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?(:\d{1,5})?$|^\[[0-9A-Fa-f:.]+\](:\d{1,5})?$|^upstream:[a-z][a-z0-9-]*$/,
    'must be a host, *.suffix, host:port, upstream:NAME, or one of packages, github, anthropic, all, none',
  )

/** Methods that an upstream is ever sent. TRACE and CONNECT are not among them: they would show or carry a credential. */
export const HTTP_METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const

/** Requests that an upstream takes. `*` in a path stands for one segment (or the rest of one), `**` at its end for any rest. */
export const RouteRule = z.strictObject({
  method: z.enum([...HTTP_METHODS, '*']),
  path: z
    .string()
    .max(1024)
    .regex(/^\/[\w.~!$&'()*+,;=:@/-]*$/, 'must be a path such as /repos/*/issues or /api/**')
    .refine(
      (path) => !/\/\.{0,2}\/|\/\.{1,2}$|\*\*./.test(path),
      'must hold no empty segment, no . or .., and ** only at its end',
    ),
})
export type RouteRule = z.infer<typeof RouteRule>

/**
 * What a machine may reach. Lists are read from the broadest level to the narrowest (all machines, one user's, one task's): each
 * adds to those before it, and one with `none` in it drops what they allow.
 */
export const NetworkPolicy = z.strictObject({
  allow: z.array(HostRule).max(200),
  /** Of what an upstream takes anyway, only this, by its name. */
  upstreams: z.record(UpstreamName, z.array(RouteRule).max(100)).optional(),
})
export type NetworkPolicy = z.infer<typeof NetworkPolicy>
