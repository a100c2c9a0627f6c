import { memo, useState } from 'react'
import { count } from '../../format.ts'
import { type Piece, parseProse, type Span } from '../../prose.ts'
import { withPlaces } from '../../places.ts'

const LIMIT = 20_000

function Spans({ spans }: { spans: readonly Span[] }) {
  return withPlaces(spans).map(({ place, item: span }) => {
    if (span.kind === 'code')
      return (
        <code key={place} className="rounded bg-white/8 px-1 py-px font-mono text-[0.92em]">
          {span.text}
        </code>
      )
    if (span.kind === 'strong') return <strong key={place}>{span.text}</strong>
    return <span key={place}>{span.text}</span>
  })
}

function PieceView({ piece }: { piece: Piece }) {
  if (piece.kind === 'code')
    return (
      <pre className="overflow-x-auto rounded-md border border-line bg-base px-3 py-2 font-mono text-xs leading-relaxed text-soft">
        {piece.text}
      </pre>
    )
  return (
    <p className={`guest-text ${piece.kind === 'heading' ? 'font-semibold' : ''}`}>
      <Spans spans={piece.spans} />
    </p>
  )
}

/** An agent's words; a block cursor at the end while they grow. */
export const Prose = memo(function Prose({ text, growing }: { text: string; growing: boolean }) {
  const [all, setAll] = useState(false)
  const isCut = text.length > LIMIT && !all
  const pieces = parseProse(isCut ? text.slice(0, LIMIT) : text)
  return (
    <div className="grid gap-2 leading-relaxed">
      {withPlaces(pieces).map(({ place, item: piece }) => (
        <PieceView key={place} piece={piece} />
      ))}
      {isCut && (
        <button
          type="button"
          data-testid="show-all"
          onClick={() => setAll(true)}
          className="justify-self-start text-xs text-accent hover:underline"
        >
          show all · {count(text.length)} characters
        </button>
      )}
      {growing && (
        <span aria-hidden="true" className="-mt-1 inline-block h-3.5 w-1.5 animate-caret bg-current opacity-70" />
      )}
    </div>
  )
})
