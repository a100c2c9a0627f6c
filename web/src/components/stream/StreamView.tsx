import { memo, type ReactNode, useState } from 'react'
import { type Block, CHUNK, type Timeline } from '../../blocks.ts'
import { Icon } from '../Icon.tsx'
import { BlockView, isDetail } from './BlockView.tsx'
import { useStickToBottom } from './useStickToBottom.ts'
import { withPlaces } from '../../places.ts'

/** Older chunks than this are left out of the page until they are asked for, which bounds its size. */
const SHOWN_CHUNKS = 60
/** How far the page may grow beyond that before the oldest chunks leave it again. */
const SLACK_CHUNKS = 20

interface ChunkProps {
  blocks: readonly Block[]
  details: boolean
  printsLines: boolean
}

const Chunk = memo(function Chunk({ blocks, details, printsLines }: ChunkProps) {
  return (
    <div className="block-chunk">
      {blocks.map((block) =>
        details || !isDetail(block) ? <BlockView key={block.key} block={block} printsLines={printsLines} /> : null,
      )}
    </div>
  )
})

interface Props {
  timeline: Timeline
  /** Whether debug lines, model requests and allowed connections are shown too. */
  details: boolean
  /** Whether each `raw` event is a whole line (see BlockView). */
  printsLines: boolean
  /** Stands before the first block. */
  head: ReactNode
  /** Stands after the last block. */
  tail: ReactNode
}

/** The stream of a task. It follows its end until the user scrolls up. */
export function StreamView({ timeline, details, printsLines, head, tail }: Props) {
  const { box, content, stuck, jump, keepView } = useStickToBottom()
  const [first, setFirst] = useState(0)
  const [leftAt, setLeftAt] = useState(0)
  const { chunks, length } = timeline

  if (stuck && chunks.length - first > SHOWN_CHUNKS + SLACK_CHUNKS) setFirst(chunks.length - SHOWN_CHUNKS)
  if (stuck && leftAt !== length) setLeftAt(length)

  const showEarlier = () => keepView(() => setFirst(Math.max(0, first - SHOWN_CHUNKS)))

  return (
    <div className="relative min-h-0 flex-1">
      {/* Focusable, so that the keyboard can scroll it. */}
      <div
        ref={box}
        tabIndex={0}
        role="log"
        aria-label="Stream"
        data-testid="stream"
        className="h-full overflow-y-auto -outline-offset-2"
      >
        <div ref={content} className="mx-auto max-w-5xl py-3">
          {head}
          {first > 0 && (
            <div className="flex justify-center py-2">
              <button
                type="button"
                data-testid="show-earlier"
                onClick={showEarlier}
                className="rounded-full border border-line px-3 py-1 text-xs text-accent hover:border-edge"
              >
                {first * CHUNK} earlier blocks
              </button>
            </div>
          )}
          {withPlaces(chunks)
            .slice(first)
            .map(({ place, item }) => (
              <Chunk key={place} blocks={item} details={details} printsLines={printsLines} />
            ))}
          {tail}
        </div>
      </div>
      {!stuck && (
        <button
          type="button"
          data-testid="jump-latest"
          onClick={jump}
          className="absolute bottom-4 left-1/2 flex h-8 -translate-x-1/2 items-center gap-1.5 rounded-full border border-edge bg-raised px-3.5 text-xs shadow-lg shadow-black/60 hover:border-accent"
        >
          <Icon name="jump" className="size-3.5 text-accent" />
          Jump to latest
          {length > leftAt && <span className="text-accent tabular-nums">{length - leftAt} new</span>}
        </button>
      )}
    </div>
  )
}
