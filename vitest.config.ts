import { defineConfig } from 'vitest/config'

/**
 * Two projects: `unit` runs beside the source, in parallel; `vm` boots real machines, one file at a time, because a small
 * machine under software emulation has no CPU to share. Time-outs of `vm` are there to end a hang, never to judge speed.
 */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'src/**/*.test.ts',
            'guest/**/*.test.ts',
            'web/**/*.test.ts',
            'scripts/**/*.test.ts',
            'scripted-model/**/*.test.ts',
          ],
          globalSetup: ['test/support/build-assets.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'vm',
          include: ['test/**/*.test.ts'],
          globalSetup: ['test/support/build-assets.ts', 'test/support/build-template.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
})
