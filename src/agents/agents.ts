import type { AgentName } from '../contracts/task.ts'
import { claudeCode } from './claude-code.ts'
import { shell } from './shell.ts'
import type { Agent } from './types.ts'

/** Every agent by its name. */
export const agents: Readonly<Record<AgentName, Agent>> = { 'claude-code': claudeCode, shell }
