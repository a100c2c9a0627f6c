import { useMutation } from '@tanstack/react-query'
import { type SubmitEvent, useState } from 'react'
import type { ExecResponse } from '../../../src/contracts/machine.ts'
import { api } from '../api.ts'
import { plain } from '../format.ts'
import { Button } from './Button.tsx'
import { CutText } from './CutText.tsx'
import { ErrorNote } from './Notes.tsx'

interface Run {
  id: number
  command: string
  response: ExecResponse
}

const KEPT_RUNS = 20

function Output({ run: { command, response } }: { run: Run }) {
  const ending = response.timedOut ? 'timed out' : `exit ${response.exitCode}`
  return (
    <li className="border-t border-line px-4 py-2.5 font-mono text-xs">
      <p className="flex justify-between gap-4">
        <span className="guest-text">
          <span className="text-accent">$ </span>
          {command}
        </span>
        <span className={`shrink-0 ${response.exitCode === 0 ? 'text-good' : 'text-bad'}`}>{ending}</span>
      </p>
      {response.stdout !== '' && <CutText text={plain(response.stdout)} className="mt-1 text-soft" />}
      {response.stderr !== '' && <CutText text={plain(response.stderr)} className="mt-1 text-bad/80" />}
      {response.truncated && <p className="mt-1 text-faint">Output beyond the cap was dropped.</p>}
    </li>
  )
}

/** A command line into a machine: each command runs to its end, the newest stands first. */
export function ExecBox({ machineId }: { machineId: string }) {
  const [command, setCommand] = useState('')
  const [runs, setRuns] = useState<Run[]>([])
  const exec = useMutation({
    mutationFn: (text: string) => api.exec(machineId, text),
    onSuccess: (response, text) =>
      setRuns((before) => [{ id: (before[0]?.id ?? 0) + 1, command: text, response }, ...before].slice(0, KEPT_RUNS)),
  })
  const submit = (event: SubmitEvent) => {
    event.preventDefault()
    if (command.trim() === '' || exec.isPending) return
    exec.mutate(command)
    setCommand('')
  }
  return (
    <div className="border-t border-line bg-base/50">
      <form onSubmit={submit} className="flex items-center gap-2 px-4 py-2.5">
        <span className="font-mono text-accent">$</span>
        <input
          data-testid="exec-command"
          aria-label="Command"
          autoFocus
          autoComplete="off"
          spellCheck={false}
          value={command}
          placeholder="uname -a"
          onChange={(event) => setCommand(event.target.value)}
          className="input-box h-8 font-mono text-[13px]"
        />
        <Button type="submit" data-testid="exec-run" disabled={exec.isPending}>
          {exec.isPending ? 'Running…' : 'Run'}
        </Button>
      </form>
      <ErrorNote error={exec.error} className="mx-4 mb-2.5" />
      <ul data-testid="exec-output">
        {runs.map((run) => (
          <Output key={run.id} run={run} />
        ))}
      </ul>
    </div>
  )
}
