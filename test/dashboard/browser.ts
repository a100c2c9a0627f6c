import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'

export interface Visit {
  page: Page
  /** Exceptions, console errors (refused by the content policy, for one) and requests that wanted to leave this machine. */
  problems: string[]
}

const EXECUTABLE = process.env['VIVARIUM_CHROMIUM'] ?? '/usr/bin/chromium'
/** No GPU, no sandbox (tests run as root), and nothing that Chromium would like to fetch for itself. */
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
]
const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost'])

/**
 * Starts Chromium with a profile and a home of its own, gives a page to `use`, and ends it and removes both, whatever
 * happens. Requests to anything but loopback are refused and reported as problems.
 */
export async function withBrowser<Result>(
  use: (visit: Visit) => Promise<Result>,
  viewport: { width: number; height: number } = { width: 1440, height: 900 },
): Promise<Result> {
  await using stack = new AsyncDisposableStack()
  const home = await mkdtemp(join(tmpdir(), 'vivarium-browser-'))
  stack.defer(() => rm(home, { recursive: true, force: true, maxRetries: 5 }))
  const context = await chromium.launchPersistentContext(join(home, 'profile'), {
    executablePath: EXECUTABLE,
    args: ARGS,
    env: { PATH: process.env['PATH'], HOME: home },
    viewport,
  })
  stack.defer(() => context.close())
  const problems: string[] = []
  await keepInside(context, problems)
  const page = await context.newPage()
  watch(page, problems)
  // Awaited here: what is returned as a promise would outlive the browser.
  return await use({ page, problems })
}

async function keepInside(context: BrowserContext, problems: string[]): Promise<void> {
  await context.route(
    (url) => !LOOPBACK.has(url.hostname) && /^(https?|wss?):$/.test(url.protocol),
    async (route) => {
      problems.push(`left the machine: ${route.request().url()}`)
      await route.abort()
    },
  )
}

function watch(page: Page, problems: string[]): void {
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`))
  page.on('dialog', (dialog) => {
    problems.push(`dialog: ${dialog.message()}`)
    void dialog.dismiss()
  })
  page.on('console', (message) => {
    // A refused or lost request is the server's answer, not the page's mistake: what the page makes of it is what counts.
    const isAnswer = /^Failed to load resource|^WebSocket connection to/.test(message.text())
    if (message.type() === 'error' && !isAnswer) problems.push(`console: ${message.text()}`)
  })
}
