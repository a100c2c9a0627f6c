import type { FieldControl } from './Field.tsx'

const CHOICES = [
  ['', 'no'],
  ['3600', '1 hour'],
  ['28800', '8 hours'],
  ['86400', '1 day'],
] as const

interface Props {
  control: Partial<FieldControl> & { 'aria-label'?: string }
  /** Seconds, as text; nothing where the machine goes with its task. */
  value: string
  onChange: (seconds: string) => void
  className?: string
}

/** How long a machine outlives its task, for commands and follow-ups. */
export function KeepSelect({ control, value, onChange, className = '' }: Props) {
  return (
    <select
      {...control}
      data-testid="keep-vm"
      value={value}
      onChange={(event) => onChange(event.target.value)}
      className={`input-box h-[34px] ${className}`}
    >
      {CHOICES.map(([seconds, label]) => (
        <option key={seconds} value={seconds}>
          {label}
        </option>
      ))}
    </select>
  )
}
