import { VivariumError } from '../contracts/errors.ts'
import { type Template, TemplateEvent, TemplateList } from '../contracts/template.ts'
import { type Http, nothing, problemError, segment, unreachable } from './http.ts'
import { sseMessages } from './sse.ts'
import type { TemplatesClient } from './types.ts'

/** The calls about templates. */
export function templatesClient(http: Http): TemplatesClient {
  return {
    list: async (call) => (await http.json(TemplateList, 'GET', '/templates', call)).items,
    build: (request = {}, options = {}) => build(http, request, options),
    remove: async (name, call) => nothing(http.send('DELETE', `/templates/${segment(name)}`, call)),
  }
}

/** Over SSE: a build takes longer than HTTP clients and proxies wait for an answer. */
async function build(
  http: Http,
  request: unknown,
  { onProgress, signal }: NonNullable<Parameters<TemplatesClient['build']>[1]>,
): Promise<Template> {
  const headers = { accept: 'text/event-stream' }
  const response = await http.send('POST', '/templates', { json: request, headers, signal })
  try {
    for await (const message of sseMessages(response.body ?? [])) {
      if (message.event === 'problem') throw problemError(message.data)
      if (message.event === 'comment') continue
      const event = TemplateEvent.parse(JSON.parse(message.data))
      if (event.kind === 'done') return event.template
      const { step, fraction, detail } = event
      onProgress?.({ step, ...(fraction !== undefined && { fraction }), ...(detail !== undefined && { detail }) })
    }
  } catch (error) {
    signal?.throwIfAborted()
    throw unreachable(http.base, error)
  }
  throw new VivariumError('setup_required', 'The connection ended before the template was built; ask for it again.')
}
