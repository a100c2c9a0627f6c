import type { AgentName, InputFile, Priority, Task, TaskRequestInput } from '../../src/contracts/task.ts'

/** The new-task form as it is typed: everything a text, so that an unfinished number stays what it is. */
export interface TaskDraft {
  prompt: string
  agent: AgentName
  model: string
  memoryMib: string
  vcpus: string
  timeoutSeconds: string
  maxTurns: string
  maxCostUsd: string
  priority: Priority
  repoUrl: string
  repoRef: string
  allow: string
  template: string
  keepVmSeconds: string
  /** The task to go on from, or nothing. */
  continues: string
  fork: boolean
}

export const EMPTY_DRAFT: TaskDraft = {
  prompt: '',
  agent: 'claude-code',
  model: '',
  memoryMib: '',
  vcpus: '',
  timeoutSeconds: '',
  maxTurns: '',
  maxCostUsd: '',
  priority: 'normal',
  repoUrl: '',
  repoRef: '',
  allow: '',
  template: '',
  keepVmSeconds: '',
  continues: '',
  fork: false,
}

function written(value: number | null): string {
  return value === null ? '' : String(value)
}

/** A draft that asks for the same as an earlier task; files and variables that went with it are not kept. */
export function draftOf(task: Task): TaskDraft {
  return {
    prompt: task.prompt,
    agent: task.agent,
    model: task.model ?? '',
    memoryMib: written(task.memoryMib),
    vcpus: written(task.vcpus),
    timeoutSeconds: written(task.timeoutSeconds),
    maxTurns: written(task.maxTurns),
    maxCostUsd: written(task.maxCostUsd),
    priority: task.priority,
    repoUrl: task.repo?.url ?? '',
    repoRef: task.repo?.ref ?? '',
    allow: task.network?.allow.join('\n') ?? '',
    template: task.template ?? '',
    keepVmSeconds: '',
    continues: task.continues ?? '',
    fork: task.fork,
  }
}

/**
 * The request for going on from a task: with the same agent, size, template and limits. Its repository is in the workspace
 * already.
 */
export function followUpOf(task: Task, prompt: string, keepVmSeconds: string): TaskRequestInput {
  return requestOf(
    { ...draftOf(task), repoUrl: '', repoRef: '', prompt, keepVmSeconds, continues: task.id, fork: false },
    [],
  )
}

/** Fields whose number is missing are left to the server's defaults; what is no number is for the server to refuse. */
function number<Name extends string>(name: Name, text: string): Partial<Record<Name, number>> {
  return text.trim() === '' ? {} : ({ [name]: Number(text) } as Record<Name, number>)
}

/** The request that a draft stands for. */
export function requestOf(draft: TaskDraft, files: readonly InputFile[]): TaskRequestInput {
  const allow = draft.allow.split(/[\s,]+/).filter((host) => host !== '')
  const isClaude = draft.agent === 'claude-code'
  const ref = draft.repoRef.trim()
  return {
    prompt: draft.prompt,
    agent: draft.agent,
    priority: draft.priority,
    ...(isClaude && draft.model.trim() !== '' ? { model: draft.model.trim() } : {}),
    ...number('memoryMib', draft.memoryMib),
    ...number('vcpus', draft.vcpus),
    ...number('timeoutSeconds', draft.timeoutSeconds),
    ...(isClaude ? number('maxTurns', draft.maxTurns) : {}),
    ...(isClaude ? number('maxCostUsd', draft.maxCostUsd) : {}),
    ...(draft.repoUrl.trim() === '' ? {} : { repo: { url: draft.repoUrl.trim(), ...(ref === '' ? {} : { ref }) } }),
    ...(allow.length === 0 ? {} : { network: { allow } }),
    ...(draft.template.trim() === '' ? {} : { template: draft.template.trim() }),
    ...number('keepVmSeconds', draft.keepVmSeconds),
    ...(draft.continues === '' ? {} : { continues: draft.continues, fork: draft.fork }),
    ...(files.length === 0 ? {} : { files: [...files] }),
  }
}
