import { expect, test } from 'vitest'
import { parseQemuVersion } from './host.ts'

test.each([
  ['QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright', '7.2.22', [7, 2]],
  ['QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)', '10.0.2', [10, 0]],
])('the version is read from %j', (output, text, number) => {
  expect(parseQemuVersion(output)).toEqual({ text, number })
})

test('what is no version is none', () => {
  expect(parseQemuVersion('error while loading shared libraries')).toBeUndefined()
})
