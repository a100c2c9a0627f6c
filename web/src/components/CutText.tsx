import { useState } from 'react'
import { count } from '../format.ts'

interface Props {
  text: string
  /** Characters shown before the rest is asked for. */
  limit?: number
  className?: string
}

/** Where to cut: not in the middle of a surrogate pair. */
function cut(text: string, limit: number): string {
  const last = text.charCodeAt(limit - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? limit - 1 : limit)
}

/** Text of a guest, cut at `limit` characters until all of it is asked for. */
export function CutText({ text, limit = 2000, className = '' }: Props) {
  const [all, setAll] = useState(false)
  const isLong = text.length > limit
  return (
    <div className={className}>
      <pre className="font-[inherit] guest-text">{isLong && !all ? cut(text, limit) : text}</pre>
      {isLong && (
        <button
          type="button"
          data-testid="show-all"
          aria-expanded={all}
          onClick={() => setAll(!all)}
          className="mt-1 rounded font-sans text-xs text-accent hover:underline"
        >
          {all ? 'show less' : `show all · ${count(text.length)} characters`}
        </button>
      )}
    </div>
  )
}
