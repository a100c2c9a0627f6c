import { expect, test } from 'vitest'
import { PatchCounter } from './patch-stat.ts'

const PATCH = `diff --git a/a.sql b/a.sql
index 1..2 100644
--- a/a.sql
+++ b/a.sql
@@ -1,3 +1,2 @@ select
 same
--- a comment of SQL, removed
-diff --git a/x b/x
+++ added, looks like a header
\\ No newline at end of file
@@ -9 +8 @@
-old
+new
diff --git a/logo.png b/logo.png
Binary files a/logo.png and b/logo.png differ
`

test('lines and files of a patch are counted, whatever its content looks like and wherever it is cut', () => {
  for (const size of [1, 7, PATCH.length]) {
    const counter = new PatchCounter()
    for (let at = 0; at < PATCH.length; at += size) counter.write(PATCH.slice(at, at + size))
    expect(counter.stat).toEqual({ files: 2, added: 2, removed: 3 })
  }
})

test('a line of any length is held as its beginning only', () => {
  const counter = new PatchCounter()
  counter.write('diff --git a/a b/a\n@@ -0,0 +1 @@\n+')
  for (let i = 0; i < 1000; i++) counter.write('x'.repeat(10_000))
  counter.write('\n')
  expect(counter.stat).toEqual({ files: 1, added: 1, removed: 0 })
})
