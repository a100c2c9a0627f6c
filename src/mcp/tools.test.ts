import type { Client } from '@modelcontextprotocol/client'
import { describe, expect, test } from 'vitest'
import type { Era, Transport } from './testing/set-up.ts'
import { setUpMcp } from './testing/set-up.ts'

const PNG = Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), Buffer.alloc(100, 1)])

const WAYS: [Transport, Era][] = [
  ['http', 'legacy'],
  ['http', 'modern'],
  ['stdio', 'legacy'],
  ['stdio', 'modern'],
]

async function call(client: Client, name: string, args: Record<string, unknown> = {}) {
  const result = await client.callTool({ name, arguments: args })
  const { content, structuredContent: structured } = result
  const text = content.find((block) => block.type === 'text')?.text
  return { isError: result.isError === true, structured, content, text }
}

describe.each(WAYS)('over %s, %s era', (transport, era) => {
  test('every tool has schemas for what it takes and returns, and says what it may do', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    const { tools } = await client.listTools()
    expect(tools.map((tool) => tool.name).toSorted()).toEqual([
      'cancel_task',
      'destroy_vm',
      'exec_in_vm',
      'get_task_file',
      'get_task_status',
      'list_task_files',
      'list_vms',
      'read_vm_file',
      'run_task',
      'start_task',
      'wait_for_task',
    ])
    for (const tool of tools) {
      expect(tool.inputSchema.type).toBe('object')
      expect(tool.outputSchema).toMatchObject({ type: 'object' })
      expect(tool.annotations?.readOnlyHint).toBeTypeOf('boolean')
      expect((tool.description ?? '').length).toBeLessThan(2000)
    }
    const properties = tools.find((tool) => tool.name === 'run_task')?.inputSchema.properties ?? {}
    expect(Object.keys(properties).includes('workspace_path')).toBe(transport === 'stdio')
  })

  test('run_task blocks until the task is done, names it at once, and returns everything that matters', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    const messages: string[] = []
    const running = client.callTool(
      { name: 'run_task', arguments: { prompt: 'draw', max_turns: 3, allow_hosts: ['*.example.com'] } },
      { onprogress: ({ message }) => messages.push(message ?? '') },
    )
    const { id } = await mcp.tasks.submitted()
    await expect.poll(() => messages[0]).toContain(id)
    await mcp.tasks.status(id, 'running')
    await mcp.log.append(id, [
      { type: 'raw', text: 'x'.repeat(5000) },
      { type: 'text', text: 'All done.' },
      { type: 'result', isError: false, text: 'All done.' },
    ])
    // Silence does not last: the last news is repeated.
    await expect.poll(() => messages.length).toBeGreaterThan(3)
    mcp.tasks.addFile(id, 'plot.png', PNG, 'image/png')
    await mcp.tasks.finish(id, 'succeeded', { result: 'All done.', costUsd: 0.25, turns: 2 })
    const { structuredContent } = await running
    expect(structuredContent).toMatchObject({
      task_id: id,
      status: 'succeeded',
      done: true,
      exit_code: 0,
      error: null,
      result: 'All done.',
      output: `${'x'.repeat(3990)}All done.\n`,
      files: [{ path: 'plot.png', size: PNG.length, mime_type: 'image/png' }],
      cost_usd: 0.25,
      turns: 2,
    })
    expect(mcp.tasks.requests[0]).toMatchObject({ prompt: 'draw', maxTurns: 3, network: { allow: ['*.example.com'] } })
    await mcp.log.noReaders()
    expect(mcp.tasks.cancelled).toEqual([])
  })

  test('a task is started, waited for in steps, looked at and stopped', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    const queue = { position: 4, reason: 'waiting for 2 GiB: 3 tasks ahead' }
    mcp.tasks.place = queue
    const order = { after: ['t_0123456789ab'], requeue: true }
    const { structured: started } = await call(client, 'start_task', { prompt: 'x', ...order })
    const { id } = await mcp.tasks.submitted()
    expect(started).toMatchObject({ task_id: id, status: 'queued' })
    expect(mcp.tasks.requests[0]).toMatchObject(order)
    await mcp.log.append(id, [{ type: 'text', text: 'thinking about it' }])
    const waited = await call(client, 'wait_for_task', { task_id: id, wait_seconds: 0.05 })
    expect(waited.structured).toMatchObject({ done: false, output: 'thinking about it\n' })
    expect((await call(client, 'get_task_status', { task_id: id })).structured).toMatchObject({
      status: 'queued',
      attempts: 0,
      queue,
    })
    expect((await call(client, 'cancel_task', { task_id: id })).structured).toMatchObject({ status: 'cancelled' })
    const ended = await call(client, 'wait_for_task', { task_id: id })
    expect(ended.structured).toMatchObject({ done: true, status: 'cancelled' })
  })

  test('a text file comes as text, a PNG as an image, anything else as what it is', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    await call(client, 'start_task', { prompt: 'x' })
    const { id } = await mcp.tasks.submitted()
    const long = 'ä'.repeat(50_000)
    mcp.tasks.addFile(id, 'out/notes.txt', Buffer.from(long), 'text/plain')
    mcp.tasks.addFile(id, 'plot.png', PNG, 'image/png')
    mcp.tasks.addFile(id, 'core.bin', Buffer.from([1, 0, 2]), 'application/octet-stream')
    const listed = await call(client, 'list_task_files', { task_id: id })
    expect(listed.structured).toMatchObject({ file_count: 3, files: [{ path: 'out/notes.txt' }, {}, {}] })

    const first = await call(client, 'get_task_file', { task_id: id, path: 'out/notes.txt' })
    expect(first.structured).toMatchObject({ kind: 'text', text: 'ä'.repeat(30_000), next_offset: 60_000 })
    const rest = await call(client, 'get_task_file', { task_id: id, path: 'out/notes.txt', offset: 60_000 })
    expect(rest.structured).toMatchObject({ text: 'ä'.repeat(20_000), next_offset: null, note: null })

    const image = await call(client, 'get_task_file', { task_id: id, path: 'plot.png' })
    expect(image.content[0]).toEqual({ type: 'image', mimeType: 'image/png', data: PNG.toString('base64') })
    expect(image.structured).toMatchObject({ kind: 'image', mime_type: 'image/png', text: null })

    const binary = await call(client, 'get_task_file', { task_id: id, path: 'core.bin' })
    expect(binary.structured).toMatchObject({ kind: 'binary', mime_type: 'application/octet-stream', text: null })
  })

  test('machines are listed, used and destroyed', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    const vm = await mcp.machines.create(mcp.identity.ada.id, { memoryMib: 512, vcpus: 1 })
    expect((await call(client, 'list_vms')).structured).toMatchObject({ vms: [{ vm_id: vm.id, memory_mib: 512 }] })
    const ran = await call(client, 'exec_in_vm', { vm_id: vm.id, command: 'uname' })
    expect(ran.structured).toMatchObject({ exit_code: 143, stdout: 'uname', truncated: false })
    mcp.machines.files.set('/workspace/a.txt', Buffer.from('hello'))
    const read = await call(client, 'read_vm_file', { vm_id: vm.id, path: '/workspace/a.txt', offset: 1 })
    expect(read.structured).toMatchObject({ text: 'ello', next_offset: null })
    expect((await call(client, 'destroy_vm', { vm_id: vm.id })).structured).toEqual({ vm_id: vm.id, destroyed: true })
  })

  test('errors say what is wrong and what to do', async () => {
    await using mcp = await setUpMcp()
    const client = await mcp.connect(transport, era)
    const missing = await call(client, 'get_task_status', { task_id: 't_0123456789ab' })
    expect(missing.isError).toBe(true)
    expect(missing.text).toMatch(/There is no task t_0123456789ab\. \(not_found\) Check the id/)
    const host = await call(client, 'start_task', { prompt: 'x', allow_hosts: ['not a host'] })
    expect(host.text).toContain('allow_hosts.0: must be a host')
    const ref = await call(client, 'start_task', { prompt: 'x', repo_ref: 'main' })
    expect(ref.text).toContain('argument repo_ref')
  })
})

test("one user's MCP sees nothing of another's tasks", async () => {
  await using mcp = await setUpMcp()
  const ada = await mcp.connect('http', 'modern')
  const owner = await mcp.connect('http', 'modern', 'vv_owner')
  await call(ada, 'start_task', { prompt: 'mine' })
  const { id } = await mcp.tasks.submitted()
  for (const tool of ['get_task_status', 'cancel_task', 'wait_for_task', 'list_task_files']) {
    expect((await call(owner, tool, { task_id: id })).isError).toBe(true)
  }
  expect(mcp.tasks.cancelled).toEqual([])
})

test('a folder of this machine is sent as a workspace over stdio', async () => {
  await using mcp = await setUpMcp()
  const client = await mcp.connect('stdio', 'modern')
  await call(client, 'start_task', { prompt: 'x', workspace_path: '/some/folder' })
  expect(mcp.tasks.uploads.map(String)).toEqual(['tar of /some/folder'])
  expect(mcp.tasks.requests[0]?.uploadId).toMatch(/^w_/)
})

test('a follow-up says what it goes on from, a fork also that it branches off', async () => {
  await using mcp = await setUpMcp()
  const client = await mcp.connect('http', 'modern')
  await call(client, 'start_task', { prompt: 'first', template: 'web', keep_vm_seconds: 60 })
  const { id } = await mcp.tasks.submitted()
  await mcp.tasks.finish(id)
  await call(client, 'start_task', { prompt: 'and then', continues: id })
  await call(client, 'start_task', { prompt: 'otherwise', continues: id, fork: true })
  expect(mcp.tasks.requests).toMatchObject([
    { template: 'web', keepVmSeconds: 60 },
    { prompt: 'and then', continues: id },
    { prompt: 'otherwise', continues: id, fork: true },
  ])
  const lost = await call(client, 'start_task', { prompt: 'x', fork: true })
  expect(lost.text).toContain('fork needs continues')
})

test('the machine of a finished task is named as long as it is there, and until when', async () => {
  await using mcp = await setUpMcp()
  const client = await mcp.connect('http', 'modern')
  const keepUntil = '2026-12-01T00:00:00.000Z'
  await call(client, 'start_task', { prompt: 'x', keep_vm_seconds: 60 })
  const { id } = await mcp.tasks.submitted()
  const vm = await mcp.machines.create(mcp.identity.ada.id, { memoryMib: 512, vcpus: 1 })
  await mcp.tasks.status(id, 'running', { vmId: vm.id })
  const status = async () => (await call(client, 'get_task_status', { task_id: id })).structured
  expect(await status()).toMatchObject({ vm_id: vm.id, vm_kept_until: null })
  mcp.machines.change(vm.id, { taskId: id, state: 'suspended', keepUntil })
  await mcp.tasks.finish(id)
  expect(await status()).toMatchObject({ vm_id: vm.id, vm_kept_until: keepUntil })
  expect((await call(client, 'list_vms')).structured).toMatchObject({
    vms: [{ vm_id: vm.id, state: 'suspended', kept_until: keepUntil }],
  })
  await call(client, 'destroy_vm', { vm_id: vm.id })
  expect(await status()).toMatchObject({ vm_id: null, vm_kept_until: null })
})
