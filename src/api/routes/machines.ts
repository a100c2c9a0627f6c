import { createRoute, z } from '@hono/zod-openapi'
import { MachineId } from '../../contracts/ids.ts'
import { MachineRequest } from '../../contracts/machine.ts'
import { GuestPath } from '../../contracts/paths.ts'
import { jsonBody, streamedBody } from '../edge/body.ts'
import { guestHeaders, webStream } from '../guest-bytes.ts'
import { answers, bytes, empty, newRouter, problems, schemas, takes } from '../router.ts'
import type { ApiOptions, ApiServices } from '../types.ts'

const params = z.object({ id: MachineId })
const query = z.object({ path: GuestPath })

const list = createRoute({
  method: 'get',
  path: '/vms',
  summary: 'List machines',
  responses: { 200: answers(schemas.machineList, 'The machines'), ...problems },
})

const get = createRoute({
  method: 'get',
  path: '/vms/{id}',
  summary: 'One machine',
  request: { params },
  responses: { 200: answers(schemas.machine, 'The machine'), ...problems },
})

const create = createRoute({
  method: 'post',
  path: '/vms',
  summary: 'Start a machine without a task; answers when it is ready',
  middleware: jsonBody(),
  request: { body: takes(MachineRequest) },
  responses: { 201: answers(schemas.machine, 'The machine'), ...problems },
})

const suspend = createRoute({
  method: 'post',
  path: '/vms/{id}/suspend',
  summary: 'Save a machine to disk and free its memory; what runs in it goes on once it is resumed',
  request: { params },
  responses: { 200: answers(schemas.machine, 'The machine, suspended'), ...problems },
})

const resume = createRoute({
  method: 'post',
  path: '/vms/{id}/resume',
  summary: 'Let a suspended machine go on; using it does the same',
  request: { params },
  responses: { 200: answers(schemas.machine, 'The machine, ready'), ...problems },
})

const destroy = createRoute({
  method: 'delete',
  path: '/vms/{id}',
  summary: 'Destroy a machine; a task that runs in it fails',
  request: { params },
  responses: { 204: empty, ...problems },
})

const readFile = createRoute({
  method: 'get',
  path: '/vms/{id}/files',
  summary: 'Read a file of a machine',
  request: { params, query },
  responses: { 200: bytes('application/octet-stream', 'The file'), ...problems },
})

const writeFile = createRoute({
  method: 'put',
  path: '/vms/{id}/files',
  summary: 'Write a file of a machine',
  request: {
    params,
    query,
    body: {
      required: true,
      content: { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } },
    },
  },
  responses: { 204: empty, ...problems },
})

export function machineRoutes({ machines }: ApiServices, options: ApiOptions) {
  const router = newRouter()
  router.openapi(list, (c) => c.json({ items: machines.list(c.get('user').id) }, 200))
  router.openapi(get, (c) => c.json(machines.get(c.get('user').id, c.req.valid('param').id), 200))
  router.openapi(create, async (c) => {
    const machine = await machines.create(c.get('user').id, c.req.valid('json'), c.req.raw.signal)
    return c.json(machine, 201, { location: `/api/v1/vms/${machine.id}` })
  })
  router.openapi(suspend, async (c) => c.json(await machines.suspend(c.get('user').id, c.req.valid('param').id), 200))
  router.openapi(resume, async (c) =>
    c.json(await machines.resume(c.get('user').id, c.req.valid('param').id, c.req.raw.signal), 200),
  )
  router.openapi(destroy, async (c) => {
    await machines.destroy(c.get('user').id, c.req.valid('param').id)
    return c.body(null, 204)
  })
  router.openapi(readFile, async (c) => {
    const { path } = c.req.valid('query')
    const { body } = await machines.readFile(c.get('user').id, c.req.valid('param').id, path, c.req.raw.signal)
    // No Content-Length: the size is only what the guest claims.
    return new Response(webStream(body), {
      headers: guestHeaders('application/octet-stream', path.split('/').at(-1) ?? 'file'),
    })
  })
  router.openapi(writeFile, async (c) => {
    const { id } = c.req.valid('param')
    const body = streamedBody(c, options.maxUploadBytes)
    await machines.writeFile(c.get('user').id, id, c.req.valid('query').path, body, c.req.raw.signal)
    return c.body(null, 204)
  })
  return router
}
