import { createServer } from 'node:http'
import { array, assert, asyncProperty, nat } from 'fast-check'
import { expect, test } from 'vitest'
import { createClient } from './client.ts'
import { sseMessages } from './sse.ts'

/** A client whose server gives one answer to everything. */
function answering(response: () => Response) {
  const requests: Request[] = []
  const client = createClient({
    url: 'http://box.example:8080/',
    apiKey: 'vv_x',
    fetch(request) {
      requests.push(request)
      return response()
    },
  })
  return { client, requests }
}

test('a refusal is the error the server meant, with its code and field', async () => {
  const problem = { type: 'x', title: 'x', status: 400, code: 'invalid_request', detail: 'No.', field: 'prompt' }
  const { client, requests } = answering(() => Response.json(problem, { status: 400 }))
  await expect(client.tasks.submit({ prompt: 'x' })).rejects.toMatchObject({
    name: 'VivariumError',
    code: 'invalid_request',
    message: 'No.',
    field: 'prompt',
  })
  expect(requests[0]?.url).toBe('http://box.example:8080/api/v1/tasks')
  expect(requests[0]?.headers.get('authorization')).toBe('Bearer vv_x')
})

test('a server that is something else is told apart from one that refuses', async () => {
  const page = answering(() => new Response('<html>Bad gateway</html>', { status: 502 }))
  await expect(page.client.health()).rejects.toMatchObject({
    code: 'internal',
    message: expect.stringContaining('502'),
  })
  const other = answering(() => Response.json({ hello: 'world' }))
  await expect(other.client.health()).rejects.toMatchObject({ code: 'internal' })
})

test('where nobody listens, the error says so and what to do', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  await new Promise((resolve) => server.close(resolve))
  await expect(createClient({ url: `http://127.0.0.1:${port}` }).health()).rejects.toMatchObject({
    code: 'setup_required',
    message: expect.stringMatching(/connection refused.*vivarium serve/),
  })
})

test('a call that is given up rejects with the reason it was given up for', async () => {
  const { client } = answering(() => {
    throw new Error('network')
  })
  const reason = new Error('changed my mind')
  await expect(client.me({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
})

test('an id cannot be made to ask for something else', async () => {
  const { client, requests } = answering(() => new Response(null, { status: 204 }))
  await expect(client.tasks.remove('..')).rejects.toMatchObject({ code: 'not_found' })
  await client.tasks.remove('../users/u_1?x#y')
  expect(requests.map((request) => new URL(request.url).pathname)).toEqual(['/api/v1/tasks/..%2Fusers%2Fu_1%3Fx%23y'])
})

test('an event stream reads the same however it is cut into pieces', async () => {
  const text = ': hi\n\nretry: 1000\n\nid: 1\ndata: {"a":"ä€😀"}\n\nevent: end\r\ndata: one\r\ndata: two\r\n\r\n'
  const expected = [
    { event: 'comment', data: 'hi', id: undefined },
    { event: 'message', data: '{"a":"ä€😀"}', id: '1' },
    { event: 'end', data: 'one\ntwo', id: undefined },
  ]
  const bytes = Buffer.from(text)
  await assert(
    asyncProperty(array(nat(bytes.length)), async (cuts) => {
      const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
      const pieces = edges.slice(1).map((end, index) => bytes.subarray(edges[index], end))
      expect(await Array.fromAsync(sseMessages(pieces))).toEqual(expected)
    }),
  )
})
