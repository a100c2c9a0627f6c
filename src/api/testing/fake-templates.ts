import { VivariumError } from '../../contracts/errors.ts'
import type { Template, TemplateRequest } from '../../contracts/template.ts'
import type { Progress } from '../../images/types.ts'
import type { ApiServices } from '../types.ts'

type FakedTemplates = ApiServices['templates']

/** Templates that are there at once, but for `broken`, whose warm-up fails, and `endless`, which is built until given up. */
export class FakeTemplates implements FakedTemplates {
  readonly requests: TemplateRequest[] = []
  /** Builds that were given up. */
  abandoned = 0
  #templates: Template[] = []

  async list(): Promise<Template[]> {
    return this.#templates
  }

  async build(
    request: TemplateRequest,
    { progress, signal }: { progress?: Progress; signal?: AbortSignal } = {},
  ): Promise<Template> {
    this.requests.push(request)
    const { name, memoryMib, vcpus } = request
    progress?.({ step: 'boot', fraction: 0.25 })
    if (name === 'endless') await this.#untilAbandoned(signal)
    if (name === 'broken') throw new VivariumError('invalid_request', 'Its warm-up script ended with exit code 1.')
    const at = new Date().toISOString()
    const template: Template = {
      name,
      memoryMib,
      vcpus,
      state: 'ready',
      reason: null,
      memory: 'mapped',
      bytes: 600 * 1024 * 1024,
      builtAt: at,
      lastUsedAt: null,
    }
    this.#templates = [...this.#templates.filter((other) => other.name !== name), template]
    return template
  }

  async remove(name: string): Promise<void> {
    this.#templates = this.#templates.filter((template) => template.name !== name)
  }

  async #untilAbandoned(signal: AbortSignal | undefined): Promise<never> {
    await new Promise((resolve) => signal?.addEventListener('abort', resolve))
    this.abandoned += 1
    throw signal?.reason
  }
}
