import type { Progress } from '../images/types.ts'

type Update = Parameters<Progress>[0]

/**
 * Runs something long: its news as they come, its result last. A reader that is slower than the news gets the latest only.
 * Rejects as the job does.
 */
export async function* withProgress<Result>(
  job: (progress: Progress) => Promise<Result>,
): AsyncGenerator<{ update: Update } | { result: Result }> {
  const state: { latest?: Update; ended: boolean } = { ended: false }
  let news = Promise.withResolvers<void>()
  const running = job((update) => {
    state.latest = update
    news.resolve()
  }).finally(() => {
    state.ended = true
    news.resolve()
  })
  // Told where it is awaited; a reader that leaves before that wants to hear nothing.
  running.catch(() => undefined)
  while (!state.ended) {
    await news.promise
    news = Promise.withResolvers()
    const { latest } = state
    delete state.latest
    if (latest !== undefined) yield { update: latest }
  }
  yield { result: await running }
}
