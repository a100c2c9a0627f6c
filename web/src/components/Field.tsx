import { type ReactNode, useId } from 'react'

export interface FieldControl {
  id: string
  'aria-invalid': boolean
  'aria-describedby': string | undefined
}

interface Props {
  label: string
  hint?: ReactNode
  /** What the server said about this field. */
  problem?: string | undefined
  children: (control: FieldControl) => ReactNode
}

/** A labelled input with its hint, or what is wrong with it. `children` gets what ties the input to both. */
export function Field({ label, hint, problem, children }: Props) {
  const id = useId()
  const note = problem ?? hint
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="mb-1 block text-[13px] text-soft">
        {label}
      </label>
      {children({
        id,
        'aria-invalid': problem !== undefined,
        'aria-describedby': note === undefined ? undefined : `${id}-note`,
      })}
      {note !== undefined && (
        <p id={`${id}-note`} className={`mt-1 text-xs ${problem === undefined ? 'text-faint' : 'text-bad'}`}>
          {note}
        </p>
      )}
    </div>
  )
}
