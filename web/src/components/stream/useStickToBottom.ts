import { type RefObject, useCallback, useEffect, useRef, useState } from 'react'
import { flushSync } from 'react-dom'

const NEAR_PX = 48

export interface Sticking {
  box: RefObject<HTMLDivElement | null>
  content: RefObject<HTMLDivElement | null>
  /** Whether the box follows its end. */
  stuck: boolean
  jump: () => void
  /** Makes a change that adds content above, and leaves in view what is in view. */
  keepView: (change: () => void) => void
}

/**
 * Keeps a scrolling box at its end while its content grows, until the user scrolls up; scrolling back to the end, or `jump`,
 * takes it up again. Growth is seen by its size, so it does not matter what makes the content higher.
 */
export function useStickToBottom(): Sticking {
  const box = useRef<HTMLDivElement>(null)
  const content = useRef<HTMLDivElement>(null)
  const [stuck, setStuck] = useState(true)
  const follows = useRef(true)

  const follow = useCallback((value: boolean) => {
    follows.current = value
    setStuck(value)
  }, [])

  const jump = useCallback(() => {
    follow(true)
    const element = box.current
    if (element) element.scrollTop = element.scrollHeight
  }, [follow])

  const keepView = useCallback((change: () => void) => {
    const element = box.current
    const fromEnd = element ? element.scrollHeight - element.scrollTop : 0
    flushSync(change)
    if (element) element.scrollTop = element.scrollHeight - fromEnd
  }, [])

  useEffect(() => {
    const element = box.current
    const inner = content.current
    if (!element || !inner) return
    let lastTop = element.scrollTop
    let lastHeight = element.scrollHeight

    const onScroll = () => {
      const { scrollTop, scrollHeight, clientHeight } = element
      // Content that became lower moves the box up by itself; only the user moves it up over the same content.
      const movedUp = scrollTop < lastTop - 1 && scrollHeight >= lastHeight
      if (scrollHeight - scrollTop - clientHeight < NEAR_PX) follow(true)
      else if (movedUp) follow(false)
      lastTop = scrollTop
      lastHeight = scrollHeight
    }
    // Before the scroll itself: a fast stream would otherwise pull the box down again first.
    const onWheel = (event: WheelEvent) => {
      if (event.deltaY < 0 && element.scrollTop > 0) follow(false)
    }
    const observer = new ResizeObserver(() => {
      if (follows.current) element.scrollTop = element.scrollHeight
      lastHeight = element.scrollHeight
      lastTop = element.scrollTop
    })
    observer.observe(inner)
    observer.observe(element)
    element.addEventListener('scroll', onScroll, { passive: true })
    element.addEventListener('wheel', onWheel, { passive: true })
    return () => {
      observer.disconnect()
      element.removeEventListener('scroll', onScroll)
      element.removeEventListener('wheel', onWheel)
    }
  }, [follow])

  return { box, content, stuck, jump, keepView }
}
