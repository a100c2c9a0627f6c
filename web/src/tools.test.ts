import { describe, expect, it } from 'vitest'
import { diff, viewTool } from './tools.ts'

describe('viewTool', () => {
  it('shows a command as a command and its description beside the name', () => {
    expect(viewTool('Bash', { command: 'ls', description: 'List files' })).toEqual({
      summary: 'List files',
      parts: [{ kind: 'command', text: 'ls' }],
    })
  })

  it('shows an edit as a difference', () => {
    expect(viewTool('Edit', { file_path: '/a', old_string: 'x\ny', new_string: 'x\nz' })).toEqual({
      summary: '/a',
      parts: [
        {
          kind: 'diff',
          lines: [
            { sign: ' ', text: 'x' },
            { sign: '-', text: 'y' },
            { sign: '+', text: 'z' },
          ],
        },
      ],
    })
  })

  it('shows an unknown tool as JSON', () => {
    expect(viewTool('mcp__x__y', { a: 1 }).parts).toEqual([{ kind: 'code', text: '{\n  "a": 1\n}' }])
  })

  it('falls back to JSON when an input does not fit its tool', () => {
    for (const input of ['text', 7, [1], { command: 3 }])
      expect(viewTool('Bash', input).parts).toEqual([{ kind: 'code', text: JSON.stringify(input, undefined, 2) }])
    for (const name of ['constructor', 'toString', '__proto__']) expect(viewTool(name, null).parts).toHaveLength(1)
    expect(() => viewTool('TodoWrite', { todos: [null, 1, { content: 2 }] })).not.toThrow()
    expect(() => viewTool('Bash', undefined)).not.toThrow()
  })
})

describe('diff', () => {
  it('keeps what is the same at both ends', () => {
    const signs = (before: string, after: string) =>
      diff(before, after)
        .map((line) => line.sign)
        .join('')
    expect(signs('a\nb\nc', 'a\nB\nc')).toBe(' -+ ')
    expect(signs('a', 'a')).toBe(' ')
    expect(signs('a\na', 'a')).toBe(' -')
    expect(signs('', 'new\nlines')).toBe('++')
  })
})
