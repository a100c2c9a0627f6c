import { VivariumError } from '../../contracts/errors.ts'
import type { Templates } from '../types.ts'

/** Templates of a server that has none. */
export const noTemplates: Templates = {
  list: async () => [],
  async build() {
    throw new VivariumError(
      'conflict',
      'This server has no templates: its settings switch them off (template.enabled).',
    )
  },
  async remove(name) {
    throw new VivariumError('not_found', `There is no template ${name}.`)
  },
  async buildWanted() {},
}
