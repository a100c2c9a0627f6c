import { type ButtonHTMLAttributes, useState } from 'react'

const LOOKS = {
  primary: 'bg-accent text-base font-semibold hover:bg-[#ffa05f] border-transparent',
  quiet: 'border-line bg-panel text-soft hover:border-edge hover:bg-raised hover:text-fg',
  danger: 'border-bad/40 bg-bad/10 text-bad hover:bg-bad/20',
  bare: 'border-transparent text-soft hover:bg-raised hover:text-fg',
} as const

export type ButtonLook = keyof typeof LOOKS

/** The classes of a button, for links that look like one. */
export function buttonClass(look: ButtonLook): string {
  return `inline-flex h-8 items-center justify-center gap-1.5 whitespace-nowrap rounded-md border px-3 text-[13px] leading-none transition-colors disabled:cursor-not-allowed disabled:opacity-50 ${LOOKS[look]}`
}

type Props = ButtonHTMLAttributes<HTMLButtonElement> & { look?: ButtonLook }

export function Button({ look = 'quiet', className = '', ...rest }: Props) {
  return <button type="button" className={`${buttonClass(look)} ${className}`} {...rest} />
}

/** A button that asks once more before it does something that cannot be undone; leaving it takes the question back. */
export function ConfirmButton({
  question,
  onConfirm,
  children,
  ...rest
}: Props & { question: string; onConfirm: () => void }) {
  const [asking, setAsking] = useState(false)
  const click = () => {
    setAsking(!asking)
    if (asking) onConfirm()
  }
  return (
    <Button {...rest} {...(asking ? { look: 'danger' } : {})} onClick={click} onBlur={() => setAsking(false)}>
      {asking ? question : children}
    </Button>
  )
}
