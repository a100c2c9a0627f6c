import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Client } from '@modelcontextprotocol/client'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { startScriptedModel } from '../scripted-model/server.ts'
import type { ScriptInput } from '../scripted-model/script.ts'
import { runClaudeClient } from './support/claude-client.ts'
import { MAIN, startOrchestrator, type TestOrchestrator } from './support/orchestrator.ts'
import { conversation } from './support/scripts.ts'

/** A PNG of one pixel. */
const pixel = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

const inner: ScriptInput = {
  conversations: [
    conversation('draw a pixel', [
      {
        type: 'tool_use',
        name: 'Bash',
        input: { command: `echo ${pixel} | base64 -d > shot.png; echo drawn > note.txt` },
      },
      { type: 'text', text: 'The pixel is drawn.' },
    ]),
  ],
}

let orchestrator: TestOrchestrator
beforeAll(async () => {
  orchestrator = await startOrchestrator({ script: inner })
})
afterAll(async () => {
  await orchestrator?.[Symbol.asyncDispose]()
})

describe('the official MCP client', () => {
  test('run_task blocks, sends progress, and answers with id, status, exit code, files, cost and output', async () => {
    const client = new Client({ name: 'test', version: '1' })
    const transport = new StreamableHTTPClientTransport(new URL(`${orchestrator.url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${orchestrator.key}` } },
    })
    await client.connect(transport)
    try {
      const { tools } = await client.listTools()
      const names = tools.map((tool) => tool.name)
      expect(names).toEqual(
        expect.arrayContaining([
          'run_task',
          'get_task_status',
          'list_vms',
          'exec_in_vm',
          'read_vm_file',
          'destroy_vm',
          'list_task_files',
          'get_task_file',
          'start_task',
          'wait_for_task',
          'cancel_task',
        ]),
      )
      for (const tool of tools) expect([tool.name, tool.outputSchema?.type]).toEqual([tool.name, 'object'])
      const messages: string[] = []
      const result = await client.callTool(
        { name: 'run_task', arguments: { prompt: 'draw a pixel', memory_mib: 1024 } },
        {
          onprogress: (progress) => void messages.push(progress.message ?? ''),
          resetTimeoutOnProgress: true,
          timeout: 240_000,
        },
      )
      const structured = result.structuredContent as Record<string, unknown>
      expect(structured).toMatchObject({
        status: 'succeeded',
        exit_code: 0,
        output: expect.stringContaining('The pixel is drawn.'),
      })
      expect(structured['cost_usd']).toBeGreaterThan(0)
      expect(messages[0]).toContain(String(structured['task_id']))
      expect(messages.length).toBeGreaterThan(2)

      const image = await client.callTool({
        name: 'get_task_file',
        arguments: { task_id: structured['task_id'], path: 'shot.png' },
      })
      expect(image.content).toContainEqual({ type: 'image', mimeType: 'image/png', data: pixel })
      const text = await client.callTool({
        name: 'get_task_file',
        arguments: { task_id: structured['task_id'], path: 'note.txt' },
      })
      expect(JSON.stringify(text)).toContain('drawn')
    } finally {
      await client.close()
    }
  })
})

/** What the outer Claude does: delegates, then looks at the file that came back. */
const outer: ScriptInput = {
  conversations: [
    {
      when: 'delegate it',
      captures: { task: '(t_[0-9a-z]{12})' },
      turns: [
        {
          blocks: [
            { type: 'tool_use', name: 'mcp__vivarium__run_task', input: { prompt: 'draw a pixel', memory_mib: 1024 } },
          ],
        },
        {
          blocks: [
            {
              type: 'tool_use',
              name: 'mcp__vivarium__get_task_file',
              input: { task_id: '{{task}}', path: 'shot.png' },
            },
          ],
        },
        { blocks: [{ type: 'text', text: 'Delegated {{task}} and saw the picture.' }] },
      ],
    },
  ],
}

describe('the real Claude Code as the client delegates to the Claude in the machine', () => {
  const servers = {
    http: () => ({
      type: 'http',
      url: `${orchestrator.url}/mcp`,
      headers: { Authorization: `Bearer ${orchestrator.key}` },
    }),
    stdio: () => ({ command: process.execPath, args: [MAIN, 'mcp'], env: { VIVARIUM_HOME: orchestrator.home } }),
  }
  test.each(['http', 'stdio'] as const)('over %s', async (kind) => {
    await using model = await startScriptedModel({ script: outer })
    const { code, lines, stderr } = await runClaudeClient({
      prompt: 'delegate it',
      modelUrl: model.url,
      mcpServers: { vivarium: servers[kind]() },
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const result = lines.findLast((line) => line['type'] === 'result')
    expect(result).toMatchObject({
      is_error: false,
      result: expect.stringMatching(/^Delegated t_\w{12} and saw the picture\.$/),
    })
    // The picture reached the model as a picture.
    const seen = model.requests.some((request) => JSON.stringify(request.body ?? '').includes(pixel))
    expect(seen).toBe(true)
  })
})
