import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import { EventList } from '../contracts/event.ts'
import { MachineInfo, MachineList } from '../contracts/machine.ts'
import { isConfinedPath } from '../contracts/paths.ts'
import { Health, KeyList, LeakList, Me, Ready, UsageList, UserList, VersionInfo } from '../contracts/server.ts'
import { ResultFile, Task, TaskList, Upload } from '../contracts/task.ts'
import { NewApiKey, User } from '../contracts/user.ts'
import { exec, execStream } from './exec.ts'
import { followTask } from './follow.ts'
import { createHttp, type Http, nothing, segment } from './http.ts'
import { secretsClient } from './secrets.ts'
import { openShell } from './shell.ts'
import { templatesClient } from './templates.ts'
import type { ByteRange, ClientOptions, MachinesClient, TasksClient, VivariumClient } from './types.ts'

const FileList = z.object({ items: z.array(ResultFile) })

/** A client of the REST API at `url`. Holds no connection and needs no closing. */
export function createClient(options: ClientOptions): VivariumClient {
  const http = createHttp(options)
  return {
    url: http.base,
    tasks: tasksClient(http),
    vms: machinesClient(http, options.apiKey),
    templates: templatesClient(http),
    users: {
      list: async (call) => (await http.json(UserList, 'GET', '/users', call)).items,
      create: async (name, call) => http.json(User, 'POST', '/users', { ...call, json: { name } }),
      remove: async (id, call) => nothing(http.send('DELETE', `/users/${segment(id)}`, call)),
    },
    keys: {
      list: async (call) => (await http.json(KeyList, 'GET', '/keys', call)).items,
      create: async (request = {}, call = {}) => http.json(NewApiKey, 'POST', '/keys', { ...call, json: request }),
      remove: async (id, call) => nothing(http.send('DELETE', `/keys/${segment(id)}`, call)),
    },
    secrets: secretsClient(http),
    me: async (call) => http.json(Me, 'GET', '/me', call),
    usage: async (query = {}, call = {}) => (await http.json(UsageList, 'GET', '/usage', { ...call, query })).items,
    health: async (call) => http.json(Health, 'GET', '/health', call),
    ready: async (call) => http.json(Ready, 'GET', '/ready', call),
    version: async (call) => http.json(VersionInfo, 'GET', '/version', call),
    leaks: async (call) => (await http.json(LeakList, 'GET', '/leaks', call)).items,
  }
}

function tasksClient(http: Http): TasksClient {
  const at = (id: string, rest = '') => `/tasks/${segment(id)}${rest}`
  return {
    submit: async (request, { idempotencyKey, ...call } = {}) =>
      http.json(Task, 'POST', '/tasks', {
        ...call,
        json: request,
        ...(idempotencyKey === undefined ? {} : { headers: { 'idempotency-key': idempotencyKey } }),
      }),
    get: async (id, call) => http.json(Task, 'GET', at(id), call),
    list: async (query = {}, call = {}) => http.json(TaskList, 'GET', '/tasks', { ...call, query }),
    cancel: async (id, call) => http.json(Task, 'POST', at(id, '/cancel'), call),
    fork: async (id, request, call = {}) =>
      (await http.json(TaskList, 'POST', at(id, '/fork'), { ...call, json: request })).items,
    remove: async (id, call) => nothing(http.send('DELETE', at(id), call)),
    events: async (id, query = {}, call = {}) => http.json(EventList, 'GET', at(id, '/events'), { ...call, query }),
    follow: (id, { from = 1, signal } = {}) => followTask(http, id, { from, signal }),
    files: async (id, call) => (await http.json(FileList, 'GET', at(id, '/files'), call)).items,
    file: async (id, path, { range, ...call } = {}) =>
      http.download(at(id, `/files/${pathSegments(path)}`), {
        ...call,
        ...(range === undefined ? {} : { headers: { range: rangeHeader(range) } }),
      }),
    patch: async (id, call) => http.download(at(id, '/patch'), call),
    archive: async (id, call) => http.download(at(id, '/archive'), call),
    upload: async (tar, call = {}) =>
      http.json(Upload, 'POST', '/uploads', { ...call, body: tar, headers: { 'content-type': 'application/x-tar' } }),
  }
}

function machinesClient(http: Http, apiKey: string | undefined): MachinesClient {
  const at = (id: string, rest = '') => `/vms/${segment(id)}${rest}`
  return {
    list: async (call) => (await http.json(MachineList, 'GET', '/vms', call)).items,
    get: async (id, call) => http.json(MachineInfo, 'GET', at(id), call),
    create: async (request = {}, call = {}) => http.json(MachineInfo, 'POST', '/vms', { ...call, json: request }),
    destroy: async (id, call) => nothing(http.send('DELETE', at(id), call)),
    suspend: async (id, call) => http.json(MachineInfo, 'POST', at(id, '/suspend'), call),
    resume: async (id, call) => http.json(MachineInfo, 'POST', at(id, '/resume'), call),
    exec: async (id, request, call) => exec(http, id, request, call),
    execStream: (id, request, call) => execStream(http, id, request, call),
    shell: async (id, options = {}) => openShell(http, id, apiKey, options),
    readFile: async (id, path, call = {}) => http.download(at(id, '/files'), { ...call, query: { path } }),
    writeFile: async (id, path, body, call = {}) =>
      nothing(
        http.send('PUT', at(id, '/files'), {
          ...call,
          query: { path },
          body,
          headers: { 'content-type': 'application/octet-stream' },
        }),
      ),
  }
}

function pathSegments(path: string): string {
  if (!isConfinedPath(path)) {
    throw new VivariumError('invalid_request', `"${path}" is no path of a result file.`, { field: 'path' })
  }
  return path.split('/').map(segment).join('/')
}

function rangeHeader(range: ByteRange): string {
  return `bytes=${range.start}-${range.end ?? ''}`
}
