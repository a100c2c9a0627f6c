import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import { composeHost } from '../../src/compose.ts'
import { loadConfig } from '../../src/config/load.ts'
import { run } from './orchestrator.ts'

/**
 * Runs the real Claude Code on this host as an MCP client, with a HOME of its own and a scripted model. Returns its
 * stream-json lines.
 */
export async function runClaudeClient(options: {
  prompt: string
  modelUrl: string
  mcpServers: Record<string, unknown>
}): Promise<{ code: number; lines: Record<string, unknown>[]; stderr: string }> {
  const home = mkdtempSync(join(tmpdir(), 'vivarium-claude-'))
  try {
    const config = join(home, 'mcp.json')
    writeFileSync(config, JSON.stringify({ mcpServers: options.mcpServers }))
    mkdirSync(join(home, 'work'))
    const claude = join(home, 'claude')
    await takeFromImage('/usr/local/bin/claude', claude)
    const argv = [
      claude,
      '-p',
      options.prompt,
      '--output-format',
      'stream-json',
      '--verbose',
      '--dangerously-skip-permissions',
      '--strict-mcp-config',
      '--mcp-config',
      config,
    ]
    const env = {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      LANG: 'C.UTF-8',
      IS_SANDBOX: '1',
      ANTHROPIC_BASE_URL: options.modelUrl,
      ANTHROPIC_API_KEY: 'outer-test-key',
      DISABLE_AUTOUPDATER: '1',
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    }
    const { code, stdout, stderr } = await run(argv, { env, cwd: join(home, 'work') })
    const lines = stdout
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    return { code, lines, stderr }
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

/** Copies a file out of the guest image's root disk: the very Claude Code that guests run. */
async function takeFromImage(path: string, target: string): Promise<void> {
  const image = await composeHost(loadConfig().config).doctor.images.ensure()
  await execa('debugfs', ['-R', `dump -p ${path} ${target}`, image.root])
}
