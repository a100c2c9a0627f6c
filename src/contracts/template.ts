import { z } from 'zod'

/** `default` is the plain one; others are named in the settings (`template.warm`). */
export const TemplateName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,39}$/, 'must be a template name: lower-case letters, digits and hyphens')
export type TemplateName = z.infer<typeof TemplateName>

export const DEFAULT_TEMPLATE = 'default'

/** A saved machine that others start from, as `GET /templates` shows it. There is one for each name and size. */
export const Template = z.object({
  name: TemplateName,
  memoryMib: z.int(),
  vcpus: z.int(),
  state: z.enum(['building', 'ready', 'stale']),
  /** Why it is stale and will be built again before it is used, e.g. `the guest image has changed`. */
  reason: z.string().nullable(),
  /** Whether machines map its memory file, or each reads its own copy. */
  memory: z.enum(['mapped', 'stream']),
  /** What it takes on the disk. */
  bytes: z.int().nonnegative(),
  builtAt: z.iso.datetime().nullable(),
  lastUsedAt: z.iso.datetime().nullable(),
})
export type Template = z.infer<typeof Template>

export const TemplateList = z.object({ items: z.array(Template) })
export type TemplateList = z.infer<typeof TemplateList>

/** What `POST /templates` takes. Answers when the template is there; one that is ready and fits is left as it is. */
export const TemplateRequest = z.strictObject({
  name: TemplateName.default(DEFAULT_TEMPLATE),
  memoryMib: z.int().min(512).max(1_048_576).default(2048),
  vcpus: z.int().min(1).max(64).default(2),
  /** Build it again although it fits, e.g. because its warm-up script would now fetch something newer. */
  rebuild: z.boolean().default(false),
})
export type TemplateRequest = z.infer<typeof TemplateRequest>

/** One message of `POST /templates` over SSE; `done` comes last. `fraction` goes from 0 to 1. */
export const TemplateEvent = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('progress'),
    step: z.string(),
    fraction: z.number().optional(),
    detail: z.string().optional(),
  }),
  z.object({ kind: z.literal('done'), template: Template }),
])
export type TemplateEvent = z.infer<typeof TemplateEvent>
