import { OpenAPIHono, z } from '@hono/zod-openapi'
import { Problem } from '../contracts/errors.ts'
import { EventList, TaskEvent } from '../contracts/event.ts'
import { ExecRequest, ExecResponse, MachineInfo, MachineList } from '../contracts/machine.ts'
import { AuditEntry, AuditList, RotateResult, SecretInfo, SecretList } from '../contracts/secret.ts'
import { ExecEvent, Leak, LeakList, Me, VersionInfo } from '../contracts/server.ts'
import { ForkRequest, ResultFile, Task, TaskList, TaskRequest, Upload } from '../contracts/task.ts'
import { Template, TemplateEvent, TemplateList } from '../contracts/template.ts'
import { UsageRow } from '../contracts/usage.ts'
import { ApiKey, NewApiKey, User } from '../contracts/user.ts'
import { validationHook } from './problem.ts'
import type { AppEnv } from './types.ts'

/** A router whose refusals are problem documents. */
export function newRouter(): OpenAPIHono<AppEnv> {
  return new OpenAPIHono<AppEnv>({ defaultHook: validationHook })
}

/**
 * A contract's schema under its name in the OpenAPI document. It is a copy (`meta`), because the originals were made before
 * the OpenAPI library taught zod's new schemas its method, and because contracts know nothing of OpenAPI.
 */
function named<Schema extends z.ZodType>(name: string, schema: Schema): Schema {
  return schema.meta({}).openapi(name)
}

const task = named('Task', Task)
const event = named('TaskEvent', TaskEvent)
const machine = named('Machine', MachineInfo)
const template = named('Template', Template)

/** The contracts as the API's document names them. */
export const schemas = {
  problem: named('Problem', Problem),
  task,
  taskRequest: named('TaskRequest', TaskRequest),
  taskList: TaskList.extend({ items: z.array(task) }),
  forkRequest: named('ForkRequest', ForkRequest),
  event,
  eventList: EventList.extend({ items: z.array(event) }),
  fileList: z.object({ items: z.array(named('ResultFile', ResultFile)) }),
  upload: named('Upload', Upload),
  machine,
  machineList: MachineList.extend({ items: z.array(machine) }),
  template,
  templateList: TemplateList.extend({ items: z.array(template) }),
  templateEvent: named('TemplateEvent', TemplateEvent),
  execRequest: named('ExecRequest', ExecRequest),
  execResponse: named('ExecResponse', ExecResponse),
  execEvent: named('ExecEvent', ExecEvent),
  usageList: z.object({ items: z.array(named('UsageRow', UsageRow)) }),
  user: named('User', User),
  userList: z.object({ items: z.array(named('User', User)) }),
  key: named('ApiKey', ApiKey),
  newKey: named('NewApiKey', NewApiKey),
  keyList: z.object({ items: z.array(named('ApiKey', ApiKey)) }),
  secret: named('SecretInfo', SecretInfo),
  secretList: SecretList.extend({ items: z.array(named('SecretInfo', SecretInfo)) }),
  rotateResult: named('RotateResult', RotateResult),
  auditList: AuditList.extend({ items: z.array(named('AuditEntry', AuditEntry)) }),
  me: named('Me', Me),
  version: named('VersionInfo', VersionInfo),
  leakList: LeakList.extend({ items: z.array(named('Leak', Leak)) }),
}

/** A JSON answer. */
export function answers<Schema extends z.ZodType>(schema: Schema, description: string) {
  return { description, content: { 'application/json': { schema } } }
}

/** A required JSON body. */
export function takes<Schema extends z.ZodType>(schema: Schema) {
  return { required: true, content: { 'application/json': { schema } } }
}

/** A stream of bytes of some media type. */
export function bytes(mediaType: string, description: string) {
  return { description, content: { [mediaType]: { schema: z.string().openapi({ format: 'binary' }) } } }
}

/** What every route may answer instead of its own. */
export const problems = {
  default: { description: 'A refusal', content: { 'application/problem+json': { schema: schemas.problem } } },
}

/** An answer without a body. */
export const empty = { description: 'Done' }
