import { useQuery } from '@tanstack/react-query'
import { useRef, useState } from 'react'
import { parsePatch, type PatchLine } from '../../patch.ts'
import { patchQuery } from '../../queries.ts'
import { Button } from '../Button.tsx'
import { Icon } from '../Icon.tsx'
import { ErrorNote } from '../Notes.tsx'
import { withPlaces } from '../../places.ts'

const LOOKS: Record<PatchLine['kind'], string> = {
  file: 'mt-3 first:mt-0 bg-raised font-semibold text-fg py-1',
  hunk: 'text-cool/80',
  added: 'bg-good/10 text-good',
  removed: 'bg-bad/10 text-bad',
  same: 'text-faint',
}

function Lines({ text }: { text: string }) {
  const { lines, left } = parsePatch(text)
  return (
    <div data-testid="patch" className="font-mono text-xs leading-relaxed">
      {withPlaces(lines).map(({ place, item: line }) => (
        <div key={place} className={`px-4 guest-text ${LOOKS[line.kind]}`}>
          {line.text || ' '}
        </div>
      ))}
      {left > 0 && (
        <p className="px-4 py-2 font-sans text-faint">… and {left} more lines; download the patch to see them.</p>
      )}
    </div>
  )
}

/** The changes of a task, fetched once this is shown. */
export function Patch({ taskId }: { taskId: string }) {
  const { data, error, isPending } = useQuery(patchQuery(taskId))
  if (isPending) return <p className="p-4 text-faint">Loading…</p>
  return error ? <ErrorNote error={error} className="m-4" /> : <Lines text={data} />
}

/** A button that opens the changes of a task over the page. */
export function PatchView({ taskId }: { taskId: string }) {
  const dialog = useRef<HTMLDialogElement>(null)
  const [open, setOpen] = useState(false)
  const show = () => {
    setOpen(true)
    dialog.current?.showModal()
  }
  return (
    <div className="p-2.5">
      <Button data-testid="show-patch" onClick={show} className="w-full">
        <Icon name="branch" />
        View changes
      </Button>
      <dialog
        ref={dialog}
        aria-label="Changes"
        onClose={() => setOpen(false)}
        className="m-auto h-[90dvh] w-[min(70rem,94vw)] flex-col overflow-hidden rounded-lg border border-edge bg-panel text-fg shadow-2xl backdrop:bg-black/70 open:flex"
      >
        <header className="flex items-center justify-between border-b border-line px-4 py-2">
          <h2 className="font-medium">Changes</h2>
          <Button look="bare" aria-label="Close" className="px-2!" onClick={() => dialog.current?.close()}>
            <Icon name="close" />
          </Button>
        </header>
        <div tabIndex={0} className="min-h-0 flex-1 overflow-y-auto -outline-offset-2">
          {open && <Patch taskId={taskId} />}
        </div>
      </dialog>
    </div>
  )
}
