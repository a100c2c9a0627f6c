import { describe, expect, it } from 'vitest'
import { age, bytes, count, duration, excerpt, isRaster, mebibytes, plain, remaining, usd } from './format.ts'

describe('format', () => {
  it('writes sizes with a fitting unit', () => {
    expect([0, 999, 1000, 1_440_000, 999_960].map(bytes)).toEqual(['0 B', '999 B', '1.0 kB', '1.4 MB', '1.0 MB'])
    expect([512, 1024, 1536, 1100].map(mebibytes)).toEqual(['512 MiB', '1 GiB', '1.5 GiB', '1100 MiB'])
  })

  it('writes durations and ages', () => {
    expect([0, 840, 12_400, 187_000, 7_500_000].map(duration)).toEqual(['0 ms', '840 ms', '12.4 s', '3m 07s', '2h 05m'])
    expect([0, 59_000, 300_000, 90_000_000].map(age)).toEqual(['just now', '59s ago', '5m ago', '1d ago'])
  })

  it('writes how much time is left', () => {
    expect([-5, 40_000, 2_500_000, 7_200_000, 180_000_000].map(remaining)).toEqual(['0s', '40s', '42m', '2h', '2d'])
  })

  it('writes money with the places that matter, and counts in short', () => {
    expect([0, 0.0012, 0.5, 12.345].map(usd)).toEqual(['$0', '$0.0012', '$0.50', '$12.35'])
    expect([999, 12_345, 4_100_000].map(count)).toEqual(['999', '12.3k', '4.1M'])
  })

  it('puts the start of a text on one line', () => {
    expect(excerpt('  Fix\n\tthe   bug ', 20)).toBe('Fix the bug')
    expect(excerpt('abcdef', 3)).toBe('abc…')
  })

  it('removes terminal escapes and leaves the rest alone', () => {
    const esc = String.fromCharCode(27)
    expect(plain(`${esc}[1;31mred${esc}[0m and ${esc}]0;title${String.fromCharCode(7)}plain [31m`)).toBe(
      'red and plain [31m',
    )
  })

  it('takes raster images only for images', () => {
    expect(['image/png', 'IMAGE/JPEG', 'image/svg+xml', 'text/html'].map(isRaster)).toEqual([true, true, false, false])
  })
})
