import type { Block, ScriptInput } from '../../scripted-model/script.ts'

/** A conversation in which the scripted Claude does one thing a turn: each tool call waits for its result. */
export function conversation(when: string, blocks: Block[]): ScriptInput['conversations'][number] {
  const turns: Block[][] = [[]]
  for (const block of blocks) {
    turns.at(-1)?.push(block)
    if (block.type === 'tool_use') turns.push([])
  }
  return { when, turns: turns.filter((turn) => turn.length > 0).map((turn) => ({ blocks: turn })) }
}
