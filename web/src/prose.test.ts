import { describe, expect, it } from 'vitest'
import { parseProse } from './prose.ts'

describe('parseProse', () => {
  it('tells code, headings and paragraphs apart', () => {
    expect(parseProse('# Plan\nfirst\nsecond\n\n```ts\nconst a = 1\n\n# no heading\n```\ndone')).toEqual([
      { kind: 'heading', spans: [{ kind: 'plain', text: 'Plan' }] },
      { kind: 'paragraph', spans: [{ kind: 'plain', text: 'first\nsecond' }] },
      { kind: 'code', text: 'const a = 1\n\n# no heading', language: 'ts' },
      { kind: 'paragraph', spans: [{ kind: 'plain', text: 'done' }] },
    ])
  })

  it('marks inline code and strong words', () => {
    expect(parseProse('run `ls` **now**')).toEqual([
      {
        kind: 'paragraph',
        spans: [
          { kind: 'plain', text: 'run ' },
          { kind: 'code', text: 'ls' },
          { kind: 'plain', text: ' ' },
          { kind: 'strong', text: 'now' },
        ],
      },
    ])
  })

  it('keeps code that is still growing, and markup, as they are written', () => {
    expect(parseProse('```\nhalf')).toEqual([{ kind: 'code', text: 'half', language: '' }])
    const hostile = '<img src=x onerror=alert(1)> [a](javascript:alert(1))'
    expect(parseProse(hostile)).toEqual([{ kind: 'paragraph', spans: [{ kind: 'plain', text: hostile }] }])
  })
})
