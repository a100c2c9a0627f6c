import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { VivariumError } from '../../contracts/errors.ts'
import { TaskId } from '../../contracts/ids.ts'
import { WorkspacePath } from '../../contracts/paths.ts'
import { FileContent, renderFile } from '../file-content.ts'
import { FileOutput, fileOutputs } from '../task-output.ts'
import { addTool } from '../tool.ts'
import type { ToolEnvironment } from '../types.ts'

/** The tools about what a task brought back. */
export function addFileTools(server: McpServer, environment: ToolEnvironment): void {
  const { client } = environment

  addTool(server, environment, {
    name: 'list_task_files',
    title: 'List the files of a task',
    description: 'The files a task brought back: everything it created or changed in /workspace.',
    input: z.object({ task_id: TaskId }),
    output: z.object({ task_id: z.string(), files: z.array(FileOutput), file_count: z.int() }),
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run({ task_id: taskId }, { signal }) {
      const files = await client.tasks.files(taskId, { signal })
      return { structured: { task_id: taskId, files: fileOutputs({ files }), file_count: files.length } }
    },
  })

  addTool(server, environment, {
    name: 'get_task_file',
    title: 'Read a file of a task',
    description: 'One file a task brought back: text as text (in parts, if long), images as images.',
    input: z.object({
      task_id: TaskId,
      path: WorkspacePath.describe('As list_task_files names it'),
      offset: z.int().min(0).default(0).describe('First byte of the text'),
    }),
    output: FileContent.extend({ task_id: z.string() }),
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run({ task_id: taskId, path, offset }, { signal }) {
      const file = (await client.tasks.files(taskId, { signal })).find((candidate) => candidate.path === path)
      if (file === undefined) throw new VivariumError('not_found', `The task brought back no file "${path}".`)
      if (offset > 0 && offset >= file.size) {
        throw new VivariumError('invalid_request', `The file ends at byte ${file.size}.`, { field: 'offset' })
      }
      const range = offset === 0 ? {} : { range: { start: offset } }
      const { body } = await client.tasks.file(taskId, path, { signal, ...range })
      const { structured, images } = await renderFile({ path, offset, skip: 0, size: file.size, body })
      const mimeType = structured.kind === 'image' ? structured.mime_type : file.mimeType
      return { structured: { task_id: taskId, ...structured, mime_type: mimeType }, images }
    },
  })
}
