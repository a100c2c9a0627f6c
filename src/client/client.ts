import { z } from 'zod'
import { VivariumError } from '../contracts/errors.ts'
import { EventList } from '../contracts/event.ts'
import { MachineInfo, MachineList } from '../contracts/machine.ts'
import { isConfinedPath } from '../contracts/paths.ts'
import { Health, KeyList, Me, Ready, UsageList, UserList, VersionInfo } from '../contracts/server.ts'
import { ResultFile, Task, TaskList, Upload } from '../contracts/task.ts'
import { NewApiKey, User } from '../contracts/user.ts'
import { exec, execStream } from './exec.ts'
import { followTask } from './follow.ts'
import { createHttp, type Http, segment } from './http.ts'
import type { ByteRange, ClientOptions, MachinesClient, TasksClient, VivariumClient } from './types.ts'

const FileList = z.object({ items: z.array(ResultFile) })

/** A client of the REST API at `url`. Holds no connection and needs no closing. */
export function createClient(options: ClientOptions): VivariumClient {
  const http = createHttp(options)
  return {
    url: http.base,
    tasks: tasksClient(http),
    vms: machinesClient(http),
    users: {
      list: async (call) => (await http.json(UserList, 'GET', '/users', call)).items,
      create: (name, call) => http.json(User, 'POST', '/users', { ...call, json: { name } }),
      remove: (id, call) => nothing(http.send('DELETE', `/users/${segment(id)}`, call)),
    },
    keys: {
      list: async (call) => (await http.json(KeyList, 'GET', '/keys', call)).items,
      create: (request = {}, call = {}) => http.json(NewApiKey, 'POST', '/keys', { ...call, json: request }),
      remove: (id, call) => nothing(http.send('DELETE', `/keys/${segment(id)}`, call)),
    },
    me: (call) => http.json(Me, 'GET', '/me', call),
    usage: async (query = {}, call = {}) => (await http.json(UsageList, 'GET', '/usage', { ...call, query })).items,
    health: (call) => http.json(Health, 'GET', '/health', call),
    ready: (call) => http.json(Ready, 'GET', '/ready', call),
    version: (call) => http.json(VersionInfo, 'GET', '/version', call),
  }
}

function tasksClient(http: Http): TasksClient {
  const at = (id: string, rest = '') => `/tasks/${segment(id)}${rest}`
  return {
    submit: (request, { idempotencyKey, ...call } = {}) =>
      http.json(Task, 'POST', '/tasks', {
        ...call,
        json: request,
        ...(idempotencyKey === undefined ? {} : { headers: { 'idempotency-key': idempotencyKey } }),
      }),
    get: (id, call) => http.json(Task, 'GET', at(id), call),
    list: (query = {}, call = {}) => http.json(TaskList, 'GET', '/tasks', { ...call, query }),
    cancel: (id, call) => http.json(Task, 'POST', at(id, '/cancel'), call),
    remove: (id, call) => nothing(http.send('DELETE', at(id), call)),
    events: (id, query = {}, call = {}) => http.json(EventList, 'GET', at(id, '/events'), { ...call, query }),
    follow: (id, { from = 1, signal } = {}) => followTask(http, id, { from, signal }),
    files: async (id, call) => (await http.json(FileList, 'GET', at(id, '/files'), call)).items,
    file: (id, path, { range, ...call } = {}) =>
      http.download(at(id, `/files/${pathSegments(path)}`), {
        ...call,
        ...(range === undefined ? {} : { headers: { range: rangeHeader(range) } }),
      }),
    patch: (id, call) => http.download(at(id, '/patch'), call),
    archive: (id, call) => http.download(at(id, '/archive'), call),
    upload: (tar, call = {}) =>
      http.json(Upload, 'POST', '/uploads', { ...call, body: tar, headers: { 'content-type': 'application/x-tar' } }),
  }
}

function machinesClient(http: Http): MachinesClient {
  const at = (id: string, rest = '') => `/vms/${segment(id)}${rest}`
  return {
    list: async (call) => (await http.json(MachineList, 'GET', '/vms', call)).items,
    get: (id, call) => http.json(MachineInfo, 'GET', at(id), call),
    create: (request = {}, call = {}) => http.json(MachineInfo, 'POST', '/vms', { ...call, json: request }),
    destroy: (id, call) => nothing(http.send('DELETE', at(id), call)),
    exec: (id, request, call) => exec(http, id, request, call),
    execStream: (id, request, call) => execStream(http, id, request, call),
    readFile: (id, path, call = {}) => http.download(at(id, '/files'), { ...call, query: { path } }),
    writeFile: (id, path, body, call = {}) =>
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

/** Waits for an answer that says nothing, and frees its connection. */
async function nothing(response: Promise<Response>): Promise<void> {
  await (await response).body?.cancel()
}
