import type { TaskEvent } from '../../../../src/contracts/event.ts'
import { plain } from '../../format.ts'
import { viewTool } from '../../tools.ts'
import { CutText } from '../CutText.tsx'
import { EventImages } from '../Images.tsx'
import { ToolPartView } from './ToolParts.tsx'
import { withPlaces } from '../../places.ts'

type Call = Extract<TaskEvent, { type: 'tool_call' }>
type Result = Extract<TaskEvent, { type: 'tool_result' }>

/** What a tool answered, cut until all of it is asked for; with its images. */
export function ToolResult({ result }: { result: Result }) {
  const text = plain(result.text)
  const isEmpty = text.trim() === '' && !result.images?.length
  return (
    <div
      data-testid="event-tool-result"
      className={`font-mono text-xs leading-relaxed ${result.isError ? 'text-bad/90' : 'text-faint'}`}
    >
      {isEmpty && <span className="italic opacity-70">no output</span>}
      {text.trim() !== '' && <CutText text={text} />}
      {result.images && <EventImages images={result.images} />}
    </div>
  )
}

/** A tool's name and input. */
function Head({ call }: { call: Call }) {
  const view = viewTool(call.name, call.input)
  return (
    <div data-testid="event-tool-call">
      <p className="flex items-baseline gap-2 px-3 py-1.5">
        <span className="shrink-0 font-mono text-xs font-semibold text-tool">{call.name}</span>
        <span className="min-w-0 truncate text-xs text-soft guest-text whitespace-nowrap!" title={view.summary}>
          {view.summary}
        </span>
      </p>
      {view.parts.length > 0 && (
        <div className="grid gap-2 px-3 pb-2.5">
          {withPlaces(view.parts).map(({ place, item: part }) => (
            <ToolPartView key={place} part={part} />
          ))}
        </div>
      )}
    </div>
  )
}

/** A tool call, and below it what came of it. */
export function ToolCall({ call, result }: { call: Call; result: Result | undefined }) {
  return (
    <div
      className={`overflow-hidden rounded-md border bg-panel ${result?.isError ? 'border-bad/35' : 'border-tool/25'}`}
    >
      <Head call={call} />
      {result && (
        <div className="border-t border-line bg-base/60 px-3 py-2">
          <ToolResult result={result} />
        </div>
      )}
    </div>
  )
}
