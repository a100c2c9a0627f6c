import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { streamUrl } from './api.ts'
import { EMPTY_TIMELINE, extend, type Timeline } from './blocks.ts'
import { type Facts, learn, NO_FACTS } from './facts.ts'
import { followTask, type Stream, type StreamState } from './stream.ts'

/** The time in ms since the epoch, renewed every `interval` ms; stands still while `running` is false. */
export function useNow(interval: number, running = true): number {
  const [now, setNow] = useState(Date.now)
  useEffect(() => {
    if (!running) return
    const timer = setInterval(() => setNow(Date.now()), interval)
    return () => clearInterval(timer)
  }, [interval, running])
  return now
}

/** Names the browser's tab while the component is there. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Vivarium`
  }, [title])
}

export interface TaskStream {
  timeline: Timeline
  facts: Facts
  state: StreamState
  retry: () => void
}

/** Follows one task's events. Use it in a component that is keyed by the task. */
export function useTaskStream(taskId: string): TaskStream {
  const [timeline, setTimeline] = useState(EMPTY_TIMELINE)
  const [facts, setFacts] = useState(NO_FACTS)
  const [state, setState] = useState<StreamState>({ name: 'connecting' })
  const stream = useRef<Stream>(undefined)
  const client = useQueryClient()

  useEffect(() => {
    const refresh = () => void client.invalidateQueries({ queryKey: ['task', taskId] })
    const followed = followTask({
      url: (from) => streamUrl(taskId, from),
      connect: (url) => new WebSocket(url),
      nextFrame: (callback) => void requestAnimationFrame(callback),
      onEvents: (events) => {
        setTimeline((before) => extend(before, events))
        setFacts((before) => learn(before, events))
        if (events.some((event) => event.type === 'status')) refresh()
      },
      onState: (next) => {
        setState(next)
        // Also how a deleted task or an ended session shows: the socket itself only says that it is closed.
        if (next.name === 'lost') refresh()
      },
    })
    stream.current = followed
    const online = () => followed.retry()
    window.addEventListener('online', online)
    return () => {
      window.removeEventListener('online', online)
      followed.close()
    }
  }, [taskId, client])

  return { timeline, facts, state, retry: () => stream.current?.retry() }
}
