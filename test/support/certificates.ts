import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'

export interface TestCertificates {
  /** The authority's certificate. */
  ca: string
  key: string
  cert: string
}

/** A certificate authority of the test's own, and a certificate of it for names and addresses (`DNS:…`, `IP:…`). */
export async function makeCertificates(...names: string[]): Promise<TestCertificates> {
  const folder = mkdtempSync(join(tmpdir(), 'vivarium-ca-'))
  const openssl = (...args: string[]) => execa('openssl', args, { cwd: folder })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  try {
    const authority = ['-x509', '-days', '2', '-subj', '/CN=Test authority', '-keyout', 'ca.key', '-out', 'ca.crt']
    await openssl('req', ...newKey, ...authority)
    await openssl('req', ...newKey, '-subj', '/CN=test', '-keyout', 'server.key', '-out', 'server.csr')
    writeFileSync(join(folder, 'names'), `subjectAltName=${names.join(',')}\n`)
    const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2', '-extfile', 'names']
    await openssl('x509', '-req', '-in', 'server.csr', ...signing, '-out', 'server.crt')
    const read = (name: string) => readFileSync(join(folder, name), 'utf8')
    return { ca: read('ca.crt'), key: read('server.key'), cert: read('server.crt') }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
