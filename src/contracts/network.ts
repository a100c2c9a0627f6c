import { z } from 'zod'

/** An exact host name, `*.suffix`, or either with `:port`; an IP address must be named exactly. Matching ignores case. */
export const HostRule = z
  .string()
  .max(262)
  .regex(
    /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?(:\d{1,5})?$|^\[[0-9A-Fa-f:.]+\](:\d{1,5})?$/,
    'must be a host, *.suffix, or host:port',
  )

/** What a task may reach besides the model. Added to what the settings allow every task. */
export const NetworkPolicy = z.strictObject({ allow: z.array(HostRule).max(200) })
export type NetworkPolicy = z.infer<typeof NetworkPolicy>
