import { z } from 'zod'

/** The parts of an OpenAPI document that the page shows. */
const Document = z.object({
  info: z.object({ title: z.string(), version: z.string(), description: z.string().optional() }),
  paths: z.record(
    z.string(),
    z.record(
      z.string(),
      z.object({
        summary: z.string().optional(),
        parameters: z
          .array(z.object({ name: z.string(), in: z.string(), required: z.boolean().optional(), schema: z.unknown() }))
          .optional(),
        requestBody: z.object({ content: z.record(z.string(), z.object({ schema: z.unknown() })) }).optional(),
        responses: z.record(
          z.string(),
          z.object({
            description: z.string(),
            content: z.record(z.string(), z.object({ schema: z.unknown() })).optional(),
          }),
        ),
      }),
    ),
  ),
  components: z.object({ schemas: z.record(z.string(), z.unknown()) }),
})
type Operation = z.infer<typeof Document>['paths'][string][string]

/** The policy for the page: it holds its own style and nothing else. */
export const DOCS_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

const STYLE = `
:root { color-scheme: dark; font: 15px/1.5 system-ui, sans-serif; background: #111; color: #ddd }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { color: #fff } a { color: #ff9d4d }
details { border: 1px solid #333; border-radius: 6px; margin: .4rem 0; padding: .4rem .8rem }
summary { cursor: pointer } code, pre { font: 13px/1.4 ui-monospace, monospace }
pre { background: #1b1b1b; padding: .6rem; overflow: auto; border-radius: 4px }
.method { display: inline-block; width: 4.5rem; color: #ff9d4d; font-weight: 600; text-transform: uppercase }
.summary { color: #999 } td { padding: 0 1rem 0 0; vertical-align: top }`

/** The API's document as one page to read, without scripts and without anything from elsewhere. */
export function renderDocs(openapi: unknown): string {
  const document = Document.parse(openapi)
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => renderOperation(method, path, operation)),
  )
  const schemas = Object.entries(document.components.schemas).map(
    ([name, schema]) =>
      `<details id="${escape(name)}"><summary><code>${escape(name)}</code></summary>${renderSchema(schema)}</details>`,
  )
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escape(document.info.title)}</title>
<meta name="viewport" content="width=device-width"><style>${STYLE}</style></head><body>
<h1>${escape(document.info.title)} <small>${escape(document.info.version)}</small></h1>
<p>${escape(document.info.description ?? '')}</p>
<p>The same for programs: <a href="/api/v1/openapi.json">openapi.json</a></p>
<h2>Requests</h2>${operations.join('\n')}
<h2>Shapes</h2>${schemas.join('\n')}
</body></html>`
}

function renderOperation(method: string, path: string, operation: Operation): string {
  const parameters = (operation.parameters ?? []).map(
    ({ name, in: where, required, schema }) =>
      `<tr><td><code>${escape(name)}</code></td><td>${escape(where)}${required === true ? ', required' : ''}</td>` +
      `<td><code>${escape(JSON.stringify(schema))}</code></td></tr>`,
  )
  const bodies = Object.entries(operation.requestBody?.content ?? {}).map(
    ([type, { schema }]) => `<h4>Body: ${escape(type)}</h4>${renderSchema(schema)}`,
  )
  const responses = Object.entries(operation.responses).map(([status, { description, content }]) => {
    const types = Object.entries(content ?? {}).map(
      ([type, { schema }]) => `<div><code>${escape(type)}</code></div>${renderSchema(schema)}`,
    )
    return `<h4>${escape(status)}: ${escape(description)}</h4>${types.join('')}`
  })
  return `<details><summary><span class="method">${escape(method)}</span> <code>${escape(path)}</code>
<span class="summary">${escape(operation.summary ?? '')}</span></summary>
<table>${parameters.join('')}</table>${bodies.join('')}${responses.join('')}</details>`
}

function renderSchema(schema: unknown): string {
  const text = escape(JSON.stringify(schema, null, 2))
  return `<pre>${text.replaceAll(/#\/components\/schemas\/(\w+)/g, '<a href="#$1">$1</a>')}</pre>`
}

function escape(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  return text.replaceAll(/[&<>"]/g, (char) => entities[char] ?? char)
}
