import { describe, expect, it } from 'vitest'
import { EMPTY_DRAFT, requestOf } from './draft.ts'

describe('requestOf', () => {
  it('leaves what was not filled in to the server', () => {
    expect(requestOf({ ...EMPTY_DRAFT, prompt: 'Hi' }, [])).toEqual({
      prompt: 'Hi',
      agent: 'claude-code',
      priority: 'normal',
    })
  })

  it('sends numbers as numbers, hosts as a list, the repository with its branch', () => {
    const draft = {
      ...EMPTY_DRAFT,
      prompt: 'Hi',
      memoryMib: '4096',
      maxCostUsd: '0.5',
      allow: 'a.example, b.example\n*.c.example',
      repoUrl: ' https://git.example/x ',
      repoRef: 'main',
    }
    const file = { path: 'a.txt', contentBase64: 'YQ==' }
    expect(requestOf(draft, [file])).toMatchObject({
      memoryMib: 4096,
      maxCostUsd: 0.5,
      network: { allow: ['a.example', 'b.example', '*.c.example'] },
      repo: { url: 'https://git.example/x', ref: 'main' },
      files: [file],
    })
  })

  it('names the template, how long to keep the machine, and what to go on from', () => {
    const draft = {
      ...EMPTY_DRAFT,
      prompt: 'Hi',
      template: ' web ',
      keepVmSeconds: '3600',
      continues: 't_1',
      fork: true,
    }
    expect(requestOf(draft, [])).toMatchObject({ template: 'web', keepVmSeconds: 3600, continues: 't_1', fork: true })
  })

  it('sends a shell task without what only Claude Code has', () => {
    const draft = { ...EMPTY_DRAFT, prompt: 'ls', agent: 'shell' as const, model: 'm', maxTurns: '3', maxCostUsd: '1' }
    expect(requestOf(draft, [])).toEqual({ prompt: 'ls', agent: 'shell', priority: 'normal' })
  })
})
