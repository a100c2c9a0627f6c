import { type DragEvent, useRef, useState } from 'react'
import { type ChosenFile, droppedFiles } from '../files.ts'
import { bytes } from '../format.ts'
import { Icon } from './Icon.tsx'

interface Props {
  files: readonly ChosenFile[]
  onChange: (files: ChosenFile[]) => void
}

function Chosen({ chosen, onRemove }: { chosen: ChosenFile; onRemove: () => void }) {
  return (
    <li data-testid="chosen-file" className="flex items-center gap-2 px-3 py-1 text-[13px]">
      <Icon name="file" className="size-3.5 text-faint" />
      <bdi className="min-w-0 flex-1 truncate font-mono text-xs">{chosen.path}</bdi>
      <span className="text-xs text-faint tabular-nums">{bytes(chosen.file.size)}</span>
      <button
        type="button"
        aria-label={`Remove ${chosen.path}`}
        onClick={onRemove}
        className="rounded p-1 text-faint hover:text-bad"
      >
        <Icon name="close" className="size-3" />
      </button>
    </li>
  )
}

/** Takes files and folders by drag and drop, or from a file dialog. A path that comes again replaces the earlier file. */
export function FileDrop({ files, onChange }: Props) {
  const [over, setOver] = useState(false)
  const [problem, setProblem] = useState<string>()
  const input = useRef<HTMLInputElement>(null)
  const add = (more: readonly ChosenFile[]) =>
    onChange([...new Map([...files, ...more].map((chosen) => [chosen.path, chosen])).values()])
  const drop = (event: DragEvent) => {
    event.preventDefault()
    setOver(false)
    setProblem(undefined)
    droppedFiles(event.dataTransfer).then(add, (error: unknown) => setProblem(String(error)))
  }
  return (
    <div
      onDragOver={(event) => {
        event.preventDefault()
        setOver(true)
      }}
      onDragLeave={() => setOver(false)}
      onDrop={drop}
      className={`rounded-md border border-dashed transition-colors ${over ? 'border-accent bg-accent/10' : 'border-edge'}`}
    >
      <button
        type="button"
        onClick={() => input.current?.click()}
        className="flex w-full items-center justify-center gap-2 rounded-md px-3 py-3 text-[13px] text-faint hover:text-fg"
      >
        <Icon name="file" />
        Drop files or folders here, or choose files
      </button>
      <input
        ref={input}
        data-testid="file-input"
        type="file"
        multiple
        hidden
        onChange={(event) => {
          add(Array.from(event.target.files ?? [], (file) => ({ path: file.name, file })))
          event.target.value = ''
        }}
      />
      {problem !== undefined && <p className="px-3 pb-2 text-xs text-bad">{problem}</p>}
      {files.length > 0 && (
        <ul className="max-h-48 overflow-y-auto border-t border-line py-1">
          {files.map((chosen) => (
            <Chosen
              key={chosen.path}
              chosen={chosen}
              onRemove={() => onChange(files.filter((other) => other !== chosen))}
            />
          ))}
        </ul>
      )}
    </div>
  )
}
