import type { DiffLine, Todo, ToolPart } from '../../tools.ts'
import { CutText } from '../CutText.tsx'
import { Icon } from '../Icon.tsx'
import { withPlaces } from '../../places.ts'

const LINE_COLOURS = { '-': 'bg-bad/10 text-bad', '+': 'bg-good/10 text-good', ' ': 'text-faint' } as const
const MAX_LINES = 400

/** Removed and added lines in their colours. */
function DiffLines({ lines }: { lines: readonly DiffLine[] }) {
  const shown = lines.slice(0, MAX_LINES)
  return (
    <div className="font-mono text-xs leading-relaxed">
      {withPlaces(shown).map(({ place, item: line }) => (
        <div key={place} className={`flex ${LINE_COLOURS[line.sign]}`}>
          <span className="w-4 shrink-0 text-center opacity-60 select-none">{line.sign}</span>
          <span className="min-w-0 guest-text">{line.text}</span>
        </div>
      ))}
      {lines.length > MAX_LINES && (
        <p className="mt-1 font-sans text-faint">… and {lines.length - MAX_LINES} more lines</p>
      )}
    </div>
  )
}

const TODO_LOOKS: Record<Todo['state'], string> = {
  completed: 'text-faint line-through decoration-faint/50',
  in_progress: 'text-tool',
  pending: 'text-soft',
}

function Todos({ items }: { items: readonly Todo[] }) {
  return (
    <ul className="grid gap-0.5 text-[13px]">
      {withPlaces(items).map(({ place, item }) => (
        <li key={place} className={`flex items-start gap-2 ${TODO_LOOKS[item.state]}`}>
          <span className="mt-1 grid size-3.5 shrink-0 place-items-center rounded-sm border border-current opacity-80">
            {item.state === 'completed' && <Icon name="check" className="size-3" />}
            {item.state === 'in_progress' && <span className="size-1.5 rounded-full bg-current" />}
          </span>
          <span className="guest-text">{item.text}</span>
        </li>
      ))}
    </ul>
  )
}

/** A part of a tool call's input. */
export function ToolPartView({ part }: { part: ToolPart }) {
  if (part.kind === 'diff') return <DiffLines lines={part.lines} />
  if (part.kind === 'todos') return <Todos items={part.items} />
  if (part.kind === 'words') return <CutText text={part.text} limit={1000} className="text-[13px] text-soft" />
  if (part.kind === 'code') return <CutText text={part.text} className="font-mono text-xs leading-relaxed text-soft" />
  return (
    <div className="flex font-mono text-xs leading-relaxed">
      <span className="mr-2 text-tool select-none">$</span>
      <CutText text={part.text} className="min-w-0 text-fg" />
    </div>
  )
}
