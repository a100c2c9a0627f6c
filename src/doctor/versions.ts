import type { VersionInfo } from '../contracts/server.ts'
import { VERSION } from '../version.ts'
import type { DoctorHost } from './examine.ts'

/** Versions of this program, of the Claude Code that guests get, and of each engine found. */
export async function findVersions(
  host: Pick<DoctorHost, 'images' | 'engines'>,
  signal?: AbortSignal,
): Promise<VersionInfo> {
  const [image, ...engines] = await Promise.all([
    host.images.find(),
    ...host.engines.map((engine) => engine.probe(signal)),
  ])
  return {
    version: VERSION,
    node: process.versions.node,
    claudeCode: image?.manifest.claudeVersion ?? null,
    engines: engines.map(({ engine, works, version, reason }) => ({ engine, works, version, reason })),
  }
}
