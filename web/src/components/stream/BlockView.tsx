import { memo } from 'react'
import type { Block } from '../../blocks.ts'
import { bytes, count, plain, usd } from '../../format.ts'
import { STATUS_LABEL } from '../../status.ts'
import { CutText } from '../CutText.tsx'
import { Prose } from './Prose.tsx'
import { ResultCard } from './ResultCard.tsx'
import { Line, Row } from './Row.tsx'
import { ToolCall, ToolResult } from './ToolCall.tsx'

type BlockOf<Kind extends Block['kind']> = Extract<Block, { kind: Kind }>

const LOG_COLOURS = { debug: 'text-faint/80', info: 'text-faint', warn: 'text-warn', error: 'text-bad' } as const

function StatusLine({ block }: { block: BlockOf<'status'> }) {
  const { status, phase, message, error } = block.event
  return (
    <>
      {phase === undefined && <span className="font-medium text-soft">{STATUS_LABEL[status] ?? status}</span>}
      {phase === undefined && message !== undefined && ' · '}
      {message ?? phase}
      {error && (
        <span className="text-bad">
          {' '}
          · {error.code}: {error.message}
        </span>
      )}
    </>
  )
}

function LogLine({ block }: { block: BlockOf<'log'> }) {
  const { level, message, data } = block.event
  const detail = data === undefined ? '' : JSON.stringify(data)
  return (
    <div className="flex gap-2">
      {level !== 'info' && <span className="font-mono text-2xs/4.5 uppercase">{level}</span>}
      <CutText text={detail === '' ? plain(message) : `${plain(message)} ${detail}`} className="min-w-0" />
    </div>
  )
}

function UsageLine({ block: { event } }: { block: BlockOf<'usage'> }) {
  const cost = event.costUsd === null ? 'no known price' : usd(event.costUsd)
  const charged = event.chargedUsd === undefined ? '' : `, budgets charged ${usd(event.chargedUsd)}`
  const input = event.inputTokens + event.cacheReadTokens + event.cacheWriteTokens
  const end = event.complete ? '' : ' (cut off)'
  return `${event.model}: ${count(input)} in, ${count(event.outputTokens)} out, ${cost}${charged}${end}`
}

function EgressLine({ block: { event } }: { block: BlockOf<'egress'> }) {
  const sizes = event.bytesIn === undefined ? '' : ` · ${bytes(event.bytesIn)} in, ${bytes(event.bytesOut ?? 0)} out`
  return `${event.allowed ? 'allowed' : 'denied'} ${event.host}:${event.port} · ${event.rule}${sizes}`
}

interface Props {
  block: Block
  /** Whether each `raw` event is a whole line, as of Claude Code, or a piece of output wherever it was cut, as of a shell. */
  printsLines: boolean
}

/** One block of the stream. Everything in it that a guest wrote is text to React, never markup. */
export const BlockView = memo(function BlockView({ block, printsLines }: Props) {
  const place = { at: block.at, inner: block.parent !== undefined }
  switch (block.kind) {
    case 'thinking':
      return (
        <Row {...place} bar="bg-thinking/60" testId="event-thinking">
          <div className="text-[13px] text-thinking/90 italic">
            <Prose text={block.text} growing={block.growing} />
          </div>
        </Row>
      )
    case 'text':
      return (
        <Row {...place} bar="bg-words" testId="event-text">
          <div className="text-[#bcd6ff]">
            <Prose text={block.text} growing={block.growing} />
          </div>
        </Row>
      )
    case 'tool_input':
      return (
        <Row {...place} bar="bg-tool/60" testId="event-tool-input">
          <pre className="max-h-24 overflow-hidden font-mono text-xs text-tool/70 guest-text">
            {block.text.slice(-600)}
          </pre>
        </Row>
      )
    case 'tool':
      return (
        <Row {...place} bar="bg-tool" testId="event-tool">
          <ToolCall call={block.call} result={block.result} />
        </Row>
      )
    case 'tool_result':
      return (
        <Row {...place} bar="bg-edge" testId="event-tool-orphan">
          <ToolResult result={block.result} />
        </Row>
      )
    case 'raw':
      return (
        <Row {...place} bar="bg-edge" testId="event-raw">
          <CutText
            text={plain(block.texts.join(printsLines ? '\n' : ''))}
            limit={20_000}
            className="font-mono text-xs leading-relaxed text-soft"
          />
        </Row>
      )
    case 'stderr':
      return (
        <Row {...place} bar="bg-bad/30" testId="event-stderr">
          <CutText text={plain(block.texts.join(''))} className="font-mono text-xs leading-relaxed text-faint" />
        </Row>
      )
    case 'result':
      return (
        <Row {...place} bar={block.event.isError ? 'bg-bad' : 'bg-good'} testId="event-result">
          <ResultCard event={block.event} />
        </Row>
      )
    case 'status':
      return (
        <Line {...place} testId="event-status">
          <StatusLine block={block} />
        </Line>
      )
    case 'log':
      return (
        <Line {...place} testId="event-log" className={LOG_COLOURS[block.event.level]}>
          <LogLine block={block} />
        </Line>
      )
    case 'usage':
      return (
        <Line {...place} testId="event-usage">
          <UsageLine block={block} />
        </Line>
      )
    case 'egress':
      return (
        <Line {...place} testId="event-egress" className={block.event.allowed ? 'text-faint' : 'text-warn'}>
          <EgressLine block={block} />
        </Line>
      )
  }
})

/** Whether a block is shown only when details are asked for. */
export function isDetail(block: Block): boolean {
  if (block.kind === 'log') return block.event.level === 'debug'
  if (block.kind === 'egress') return block.event.allowed
  return block.kind === 'usage'
}
