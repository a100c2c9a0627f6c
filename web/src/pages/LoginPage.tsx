import { type SubmitEvent, useState } from 'react'
import { Button } from '../components/Button.tsx'
import { Logo } from '../components/Icon.tsx'
import { ErrorNote } from '../components/Notes.tsx'
import { useTitle } from '../hooks.ts'

/** Asks for an API key; the server answers with a session cookie, so the key itself is not kept here. */
export function LoginPage({ onKey, busy, error }: { onKey: (key: string) => void; busy: boolean; error: unknown }) {
  const [key, setKey] = useState('')
  useTitle('Log in')
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (key.trim() !== '') onKey(key.trim())
  }
  return (
    <main className="grid h-dvh place-items-center overflow-y-auto bg-[radial-gradient(ellipse_at_50%_30%,#1f1712,var(--color-base)_60%)] px-4">
      <form
        onSubmit={submit}
        className="w-full max-w-sm rounded-xl border border-line bg-panel p-7 shadow-2xl shadow-black/50"
      >
        <Logo className="mb-4 size-10" />
        <h1 className="text-xl font-semibold tracking-tight">Vivarium</h1>
        <p className="mt-1 mb-5 text-[13px] text-faint">Claude Code in throwaway microVMs, on your own hardware.</p>
        <label className="mb-1.5 block text-[13px] text-soft" htmlFor="key">
          API key
        </label>
        <input
          id="key"
          data-testid="login-key"
          type="password"
          autoComplete="current-password"
          autoFocus
          spellCheck={false}
          value={key}
          onChange={(event) => setKey(event.target.value)}
          className="input-box h-9 font-mono"
        />
        <Button type="submit" look="primary" data-testid="login-submit" disabled={busy} className="mt-3 h-9 w-full">
          {busy ? 'Logging in…' : 'Log in'}
        </Button>
        <ErrorNote error={error} className="mt-3" />
        <p className="mt-5 border-t border-line pt-4 text-xs text-faint">
          A new key: <code className="font-mono text-soft">vivarium key add</code>
        </p>
      </form>
    </main>
  )
}
