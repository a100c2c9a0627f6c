import type { McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { MachineId } from '../../contracts/ids.ts'
import { EngineName, ExecRequest, MachineInfo, MachineState } from '../../contracts/machine.ts'
import { GuestPath } from '../../contracts/paths.ts'
import { FileContent, MAX_TEXT_BYTES, renderFile } from '../file-content.ts'
import { addTool } from '../tool.ts'
import type { ToolEnvironment } from '../types.ts'

const machineReference = z.object({ vm_id: MachineId })

const MachineOutput = z.object({
  vm_id: z.string(),
  state: MachineState,
  task_id: z.string().nullable(),
  engine: EngineName,
  memory_mib: z.int(),
  vcpus: z.int(),
  created_at: z.string(),
  started_from: MachineInfo.shape.startedFrom,
  template: z.string().nullable(),
  kept_until: z.string().nullable().describe('When a VM whose task is done will be destroyed'),
})

/** Both streams together must stay below what a client hands to its model whole. */
const MAX_STREAM_CHARS = MAX_TEXT_BYTES / 2

const ExecOutput = z.object({
  vm_id: z.string(),
  exit_code: z.int(),
  stdout: z.string(),
  stderr: z.string(),
  truncated: z.boolean().describe('Only the end of the output is given; redirect it to a file and read that in parts'),
  timed_out: z.boolean(),
})

/** The tools about machines. */
export function addMachineTools(server: McpServer, environment: ToolEnvironment): void {
  const { client } = environment

  addTool(server, environment, {
    name: 'list_vms',
    title: 'List microVMs',
    description:
      'The microVMs that exist now, and the task each one runs or ran. One that is suspended goes on by itself when it is used.',
    input: z.object({}),
    output: z.object({ vms: z.array(MachineOutput) }),
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run(_args, { signal }) {
      const machines = await client.vms.list({ signal })
      const vms = machines.map((machine) => ({
        vm_id: machine.id,
        state: machine.state,
        task_id: machine.taskId,
        engine: machine.engine,
        memory_mib: machine.memoryMib,
        vcpus: machine.vcpus,
        created_at: machine.createdAt,
        started_from: machine.startedFrom,
        template: machine.template,
        kept_until: machine.keepUntil,
      }))
      return { structured: { vms } }
    },
  })

  addTool(server, environment, {
    name: 'exec_in_vm',
    title: 'Run a command in a microVM',
    description:
      'Runs a shell command as the ordinary user (sudo works without a password) in /workspace of a microVM that exists.',
    input: machineReference.extend({
      command: z.string().min(1).max(131_072),
      timeout_seconds: ExecRequest.shape.timeoutSeconds,
    }),
    output: ExecOutput,
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: true },
    async run({ vm_id: id, command, timeout_seconds: timeoutSeconds }, { signal, progress }) {
      progress.say(`Running in ${id}`)
      const result = await client.vms.exec(id, { command, timeoutSeconds }, { signal })
      const [stdout, stderr] = [result.stdout.slice(-MAX_STREAM_CHARS), result.stderr.slice(-MAX_STREAM_CHARS)]
      const cut = stdout.length < result.stdout.length || stderr.length < result.stderr.length
      return {
        structured: {
          vm_id: id,
          exit_code: result.exitCode,
          stdout: stdout.toWellFormed(),
          stderr: stderr.toWellFormed(),
          truncated: result.truncated || cut,
          timed_out: result.timedOut,
        },
      }
    },
  })

  addTool(server, environment, {
    name: 'read_vm_file',
    title: 'Read a file of a microVM',
    description: 'Reads a file of a microVM that exists: text as text, images as images.',
    input: machineReference.extend({
      path: GuestPath.describe('Absolute, e.g. /workspace/out.txt'),
      offset: z.int().min(0).default(0).describe('First byte of the text'),
    }),
    output: FileContent.extend({ vm_id: z.string() }),
    annotations: { readOnlyHint: true, idempotentHint: true, openWorldHint: false },
    async run({ vm_id: id, path, offset }, { signal }) {
      const { body } = await client.vms.readFile(id, path, { signal })
      const { structured, images } = await renderFile({ path, offset, skip: offset, size: undefined, body })
      return { structured: { vm_id: id, ...structured }, images }
    },
  })

  addTool(server, environment, {
    name: 'destroy_vm',
    title: 'Destroy a microVM',
    description:
      'Destroys a microVM and everything in it. A task that runs in it fails; stop a task with cancel_task instead.',
    input: machineReference,
    output: z.object({ vm_id: z.string(), destroyed: z.literal(true) }),
    annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
    async run({ vm_id: id }) {
      await client.vms.destroy(id)
      return { structured: { vm_id: id, destroyed: true as const } }
    },
  })
}
