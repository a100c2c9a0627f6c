import { describe, expect, it } from 'vitest'
import { parsePatch } from './patch.ts'

const PATCH = `diff --git a/a.txt b/a.txt
index 111..222 100644
--- a/a.txt
+++ b/a.txt
@@ -1,3 +1,3 @@
 same
--- removed
+++ added
diff --git a/old.txt b/new.txt
similarity index 100%
rename from old.txt
rename to new.txt
`

describe('parsePatch', () => {
  it('names each file once and tells changed lines from headers', () => {
    expect(parsePatch(PATCH).lines).toEqual([
      { kind: 'file', text: 'a.txt' },
      { kind: 'hunk', text: '@@ -1,3 +1,3 @@' },
      { kind: 'same', text: ' same' },
      { kind: 'removed', text: '--- removed' },
      { kind: 'added', text: '+++ added' },
      { kind: 'file', text: 'old.txt → new.txt' },
      { kind: 'same', text: 'rename from old.txt' },
      { kind: 'same', text: 'rename to new.txt' },
    ])
  })

  it('stops at a bound and says how much is left', () => {
    const { lines, left } = parsePatch('+x\n'.repeat(6000))
    expect([lines.length, left]).toEqual([5000, 1000])
  })
})
