import { defineConfig } from 'vitest/config'

/**
 * Two projects: `unit` runs beside the source; `vm` boots real machines, two files at a time at most, because a machine under software
 * emulation keeps a processor busy. Time-outs of `vm` are there to end a hang, never to judge speed.
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
          maxWorkers: '100%',
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'vm',
          include: ['test/**/*.test.ts'],
          globalSetup: ['test/support/build-assets.ts', 'test/support/build-template.ts'],
          maxWorkers: 2,
          testTimeout: 600_000,
          hookTimeout: 600_000,
        },
      },
    ],
  },
})
