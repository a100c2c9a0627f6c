import type { ReactNode } from 'react'
import { ApiError } from '../api.ts'
import { Icon, type IconName } from './Icon.tsx'

/** What went wrong with a call, in the server's words. Shows nothing without an error. */
export function ErrorNote({ error, className = '' }: { error: unknown; className?: string }) {
  if (error === null || error === undefined) return null
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof ApiError ? error.code : undefined
  return (
    <p
      role="alert"
      className={`flex items-start gap-2 rounded-md border border-bad/30 bg-bad/10 px-3 py-2 text-[13px] text-bad ${className}`}
    >
      <Icon name="alert" className="mt-0.5 size-4" />
      <span className="min-w-0 guest-text">
        {code !== undefined && <code className="mr-2 font-mono text-xs opacity-80">{code}</code>}
        {message}
      </span>
    </p>
  )
}

/** Stands where a list has nothing to show yet. */
export function Empty({ icon, title, children }: { icon: IconName; title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-2 px-6 py-16 text-center">
      <span className="grid size-12 place-items-center rounded-full border border-line bg-panel text-accent">
        <Icon name={icon} className="size-5" />
      </span>
      <p className="mt-1 font-medium">{title}</p>
      <div className="max-w-md text-[13px] text-faint">{children}</div>
    </div>
  )
}
