import { z } from 'zod'
import { Failure } from './errors.ts'
import { MachineId, TaskId, UserId } from './ids.ts'
import { GuestPath } from './paths.ts'
import { Phase } from './task.ts'
import { NetworkPolicy } from './network.ts'
import { TemplateName } from './template.ts'

export const EngineName = z.enum(['firecracker', 'qemu-kvm', 'qemu-tcg'])
export type EngineName = z.infer<typeof EngineName>

/** `suspended` machines take disk but no memory, and go on where they were when they are resumed. */
export const MachineState = z.enum(['booting', 'ready', 'suspending', 'suspended', 'resuming', 'stopping', 'gone'])
export type MachineState = z.infer<typeof MachineState>

/** A machine as `GET /vms` shows it. */
export const MachineInfo = z.object({
  id: MachineId,
  userId: UserId,
  taskId: TaskId.nullable(),
  state: MachineState,
  /** Why its guest stands still although it is ready, e.g. for want of disk on the host; it goes on by itself. */
  stalled: z.string().optional(),
  engine: EngineName,
  memoryMib: z.int(),
  vcpus: z.int(),
  createdAt: z.iso.datetime(),
  /** How it came to be: booted, restored from a template, taken from the ready pool, or as a copy of another machine. */
  startedFrom: z.enum(['boot', 'template', 'ready', 'fork']),
  /** The template it was restored from; null when it was booted or copied. */
  template: TemplateName.nullable(),
  /** When a machine whose task has ended will be destroyed; null where its task's end, or its user, decides. */
  keepUntil: z.iso.datetime().nullable(),
  /** Steps of the start so far, in order; the last one of a booting machine is still running. */
  phases: z.array(Phase),
  error: Failure.nullable(),
})
export type MachineInfo = z.infer<typeof MachineInfo>

/** Whether a machine was kept of a finished task, and no other task has taken it over. */
export function isKeptOf(machine: Pick<MachineInfo, 'taskId' | 'keepUntil'>, taskId: string): boolean {
  return machine.taskId === taskId && machine.keepUntil !== null
}

export const MachineList = z.object({ items: z.array(MachineInfo) })

/** What `POST /vms` takes: a machine without a task. */
export const MachineRequest = z.strictObject({
  memoryMib: z.int().min(512).max(1_048_576).default(2048),
  vcpus: z.int().min(1).max(64).default(2),
  /** Start from this template instead of the plain one of its size. */
  template: TemplateName.optional(),
  network: NetworkPolicy.optional(),
})
export type MachineRequest = z.infer<typeof MachineRequest>

/** What `POST /vms/{id}/exec` takes: either `argv`, or `command` for a shell. */
export const ExecRequest = z
  .strictObject({
    argv: z.array(z.string().max(131_072)).min(1).max(4096).optional(),
    command: z.string().min(1).max(131_072).optional(),
    cwd: GuestPath.default('/workspace'),
    env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(32_768)).default({}),
    timeoutSeconds: z.number().positive().max(86_400).default(60),
    stdin: z
      .string()
      .max(16 * 1024 * 1024)
      .default(''),
  })
  .refine((request) => (request.argv === undefined) !== (request.command === undefined), {
    error: 'give either argv or command',
    path: ['command'],
  })
export type ExecRequest = z.infer<typeof ExecRequest>

/** `exitCode` is 128 + signal number when a signal ended the command; `truncated` says that output beyond the cap was dropped. */
export const ExecResponse = z.object({
  exitCode: z.int(),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean(),
  timedOut: z.boolean(),
})
export type ExecResponse = z.infer<typeof ExecResponse>
