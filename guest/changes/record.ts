import { walk } from '../files/walk.ts'
import type { BaselineRequest } from '../../src/link/protocol.ts'
import { answerJson, readJson, type Request } from '../http.ts'
import type { AgentOptions } from '../options.ts'
import { signature, writeBaseline } from './baseline.ts'
import { excluder } from './exclude.ts'
import { recordContents } from './git.ts'

/** `POST /baseline`: what is below `root` now counts as "before". */
export async function postBaseline({ stream }: Request, options: AgentOptions): Promise<void> {
  const request = await readJson<BaselineRequest>(stream)
  if (request.git) await recordContents(request, options)
  const excluded = excluder(request.exclude)
  const { entries } = walk(request.root, (path, name) => !excluded(path, name))
  async function* marked() {
    for await (const { path, stat } of entries) {
      const mark = signature(stat)
      if (mark !== undefined) yield { path, mark }
    }
  }
  await writeBaseline(options.stateDir, request, marked())
  answerJson(stream, {})
}
