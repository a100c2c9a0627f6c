import { McpServer } from '@modelcontextprotocol/server'
import { VERSION } from '../version.ts'
import { addFileTools } from './tools/files.ts'
import { addMachineTools } from './tools/machines.ts'
import { addTaskTools } from './tools/tasks.ts'
import type { ToolEnvironment } from './types.ts'

const INSTRUCTIONS =
  'Vivarium runs prompts with Claude Code, or shell scripts, in throwaway microVMs on hardware the user owns. ' +
  'Use run_task for work that should happen apart from this machine; use start_task and wait_for_task for long work or ' +
  'several tasks at once. Files a task leaves in /workspace are read with list_task_files and get_task_file. ' +
  'To go on from a finished task, give its id as "continues".'

/** An MCP server with all tools, for one connection or request. */
export function createMcpServer(environment: ToolEnvironment): McpServer {
  const server = new McpServer(
    { name: 'vivarium', title: 'Vivarium', version: VERSION },
    { capabilities: { tools: {} }, instructions: INSTRUCTIONS },
  )
  addTaskTools(server, environment)
  addFileTools(server, environment)
  addMachineTools(server, environment)
  return server
}
