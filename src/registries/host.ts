import { readAptSources, type AptSource } from './apt-sources.ts'
import { readLanguageMirrors, type LanguageMirrors } from './languages.ts'
import { readAptLogins, type Login } from './netrc.ts'
import { readNpmSettings, type NpmSettings } from './npmrc.ts'
import { readPipIndexes, type PipIndexes } from './pip.ts'

/** Where package managers on this host find packages, as their own configuration says. Holds credentials. */
export interface HostRegistries {
  apt: AptSource[]
  aptLogins: Login[]
  npm: NpmSettings
  pip: PipIndexes
  mirrors: LanguageMirrors
}

/** Reads the configuration of every package manager of this host. */
export function readHostRegistries(): HostRegistries {
  return {
    apt: readAptSources(),
    aptLogins: readAptLogins(),
    npm: readNpmSettings(),
    pip: readPipIndexes(),
    mirrors: readLanguageMirrors(),
  }
}
