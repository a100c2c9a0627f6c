import type { ScriptInput } from './script.ts'

/** What the demo's program does, written by the scripted Claude into the workspace. Python's standard library only. */
const PROGRAM = `"""Counts primes below powers of ten and draws them as a PNG, with nothing but the standard library."""
import struct, zlib

LIMIT = 100_000

def primes_below(limit):
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\\0\\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return [n for n in range(limit) if sieve[n]]

def png(width, height, pixel):
    rows = b"".join(b"\\0" + bytes(c for x in range(width) for c in pixel(x, y)) for y in range(height))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

primes = primes_below(LIMIT)
bins = [0] * 20
for p in primes:
    bins[p * len(bins) // LIMIT] += 1
for i, count in enumerate(bins):
    print(f"{i * LIMIT // len(bins):>6} {count:>4} {'#' * (count // 16)}")
print(f"{len(primes)} primes below {LIMIT}, the largest is {primes[-1]}")

WIDTH, HEIGHT = 480, 240
def pixel(x, y):
    bar = x * len(bins) // WIDTH
    inside = HEIGHT - y < bins[bar] * (HEIGHT - 20) / max(bins) and x % (WIDTH // len(bins)) > 3
    return (232, 121, 60) if inside else (24, 24, 27)

with open("primes.png", "wb") as file:
    file.write(png(WIDTH, HEIGHT, pixel))
`

const REPORT = `# Primes below 100,000

| | |
|---|---|
| primes | 9,592 |
| largest | 99,991 |
| method | sieve of Eratosthenes |

![primes per 5,000 numbers](primes.png)

The bars fall slowly from left to right: near *n*, about one number in ln *n* is prime.
`

/** The task that \`npm run demo\` gives, and the scripted answer to any other prompt. */
export const DEMO_PROMPT = 'Count the primes below 100,000, draw them as a chart and write a short report.'

/** The demo without a real model: thinking, a file, a program run, a report, a summary. */
export const DEMO_SCRIPT: ScriptInput = {
  conversations: [
    {
      when: '',
      turns: [
        {
          blocks: [
            {
              type: 'thinking',
              text: 'A sieve is plenty for 100,000. I will check what this machine has, write a small program without dependencies, run it, and look at what it prints before I report.',
            },
            { type: 'text', text: 'I will look at the machine first, then write the program.' },
            {
              type: 'tool_use',
              name: 'Bash',
              input: {
                command: 'uname -srm && nproc && free -m | head -2 && python3 --version && id -un && pwd',
                description: 'Look at the machine',
              },
            },
          ],
          usage: { inputTokens: 2400, outputTokens: 120, cacheReadTokens: 0, cacheWriteTokens: 9000 },
          pieceDelayMs: 15,
        },
        {
          blocks: [
            { type: 'text', text: 'Python is there. Now the program.' },
            { type: 'tool_use', name: 'Write', input: { file_path: '/workspace/primes.py', content: PROGRAM } },
          ],
          usage: { inputTokens: 310, outputTokens: 780, cacheReadTokens: 9000, cacheWriteTokens: 400 },
        },
        {
          blocks: [
            {
              type: 'tool_use',
              name: 'Bash',
              input: {
                command: 'cd /workspace && python3 primes.py && ls -l primes.png',
                description: 'Run it',
              },
            },
          ],
          usage: { inputTokens: 120, outputTokens: 60, cacheReadTokens: 9400, cacheWriteTokens: 800 },
        },
        {
          blocks: [
            {
              type: 'thinking',
              text: '9,592 primes below 100,000 is the known value of π(10⁵), so the sieve is right. The report can say so.',
            },
            { type: 'tool_use', name: 'Write', input: { file_path: '/workspace/report.md', content: REPORT } },
          ],
          usage: { inputTokens: 640, outputTokens: 240, cacheReadTokens: 10_200, cacheWriteTokens: 300 },
          pieceDelayMs: 15,
        },
        {
          blocks: [
            {
              type: 'text',
              text: 'There are **9,592 primes below 100,000**, the largest is 99,991. I wrote `primes.py`, ran it, drew the distribution as `primes.png` and summed it up in `report.md`.',
            },
          ],
          usage: { inputTokens: 90, outputTokens: 80, cacheReadTokens: 10_500, cacheWriteTokens: 200 },
          pieceDelayMs: 15,
        },
      ],
    },
  ],
}
