import { useState } from 'react'
import type { ResultFile, Task } from '../../../../src/contracts/task.ts'
import { archiveUrl, fileUrl, patchUrl } from '../../api.ts'
import { bytes, isRaster } from '../../format.ts'
import { isFinal } from '../../status.ts'
import { Icon } from '../Icon.tsx'
import { Zoomable } from '../Images.tsx'
import { Panel } from '../Panel.tsx'
import { PatchView } from './PatchView.tsx'

/** Larger pictures are for downloading, and so are those after the first few. */
const PREVIEW_BYTES = 20_000_000
const PREVIEWS = 12
const LISTED = 200

function FileRow({ taskId, file }: { taskId: string; file: ResultFile }) {
  const slash = file.path.lastIndexOf('/') + 1
  return (
    <li data-testid="file-row" data-path={file.path}>
      <a
        href={fileUrl(taskId, file.path)}
        download={file.path.slice(slash)}
        title={file.path}
        className="group flex items-center gap-2 px-3 py-1 text-xs -outline-offset-2 hover:bg-raised"
      >
        <Icon name={file.mimeType.startsWith('image/') ? 'image' : 'file'} className="size-3.5 text-faint" />
        <bdi className="min-w-0 flex-1 truncate font-mono">
          <span className="text-faint">{file.path.slice(0, slash)}</span>
          {file.path.slice(slash)}
        </bdi>
        <span className="text-faint tabular-nums">{bytes(file.size)}</span>
        <Icon name="down" className="size-3.5 text-faint group-hover:text-accent" />
      </a>
    </li>
  )
}

function Previews({ taskId, files }: { taskId: string; files: readonly ResultFile[] }) {
  const images = files.filter((file) => isRaster(file.mimeType) && file.size <= PREVIEW_BYTES).slice(0, PREVIEWS)
  if (images.length === 0) return null
  return (
    <div className="grid grid-cols-2 gap-2 border-b border-line p-2.5">
      {images.map((file) => (
        <Zoomable
          key={file.path}
          src={fileUrl(taskId, file.path)}
          name={file.path}
          className="aspect-4/3 w-full rounded border border-line bg-base object-contain hover:border-accent"
        >
          <bdi className="mt-1 block truncate font-mono text-2xs text-faint">{file.path}</bdi>
        </Zoomable>
      ))}
    </div>
  )
}

function Files({ task }: { task: Task }) {
  const [all, setAll] = useState(false)
  const { files } = task
  const listed = all ? files : files.slice(0, LISTED)
  return (
    <>
      <Previews taskId={task.id} files={files} />
      <ul className="max-h-[50dvh] overflow-y-auto py-1">
        {listed.map((file) => (
          <FileRow key={file.path} taskId={task.id} file={file} />
        ))}
      </ul>
      {files.length > listed.length && (
        <button type="button" onClick={() => setAll(true)} className="px-3 pb-2 text-xs text-accent hover:underline">
          show all {files.length} files
        </button>
      )}
    </>
  )
}

function Download({ href, name, label }: { href: string; name: string; label: string }) {
  return (
    <a href={href} download={name} className="flex items-center gap-1 rounded text-xs text-accent hover:underline">
      <Icon name="down" className="size-3.5" />
      {label}
    </a>
  )
}

/** The files that came back, and the changes as a patch. */
export function FilesPanels({ task }: { task: Task }) {
  const { files } = task
  const size = files.reduce((sum, file) => sum + file.size, 0)
  return (
    <>
      <Panel
        title={files.length === 0 ? 'Files' : `Files · ${files.length} · ${bytes(size)}`}
        aside={files.length > 0 && <Download href={archiveUrl(task.id)} name={`${task.id}.tar.gz`} label="all" />}
      >
        {files.length > 0 ? (
          <Files task={task} />
        ) : (
          <p className="px-3 py-2.5 text-xs text-faint">
            {isFinal(task.status)
              ? 'Nothing was created or changed.'
              : 'What the agent creates or changes is brought back when it has finished.'}
          </p>
        )}
      </Panel>
      {task.hasPatch && (
        <Panel title="Changes" aside={<Download href={patchUrl(task.id)} name={`${task.id}.patch`} label="patch" />}>
          <PatchView taskId={task.id} />
        </Panel>
      )}
    </>
  )
}
