import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { createBackup } from '../../backup/create.ts'
import { BACKUPS } from '../../backup/daily.ts'
import { restoreBackup } from '../../backup/restore.ts'
import { loadConfig } from '../../config/load.ts'
import { lockDataFolder } from '../../server/lock.ts'
import type { Io } from '../io.ts'

/** Both work on the data folder itself: the first beside a running server, the second in its absence. */
export function registerBackup(program: Command, io: Io): void {
  const home = () => loadConfig({}, undefined, io.env).config.home

  program
    .command('backup')
    .description("Back up this host's data folder, also while its server runs.")
    .argument('[folder]', 'where to; a new folder among the backups in the data folder unless given')
    .option('--master-key', 'also the key of the secrets: who has the backup can read them then')
    .option('--machines', 'also suspended machines, which are large and run on this host only')
    .action(async (folder: string | undefined, options: { masterKey?: true; machines?: true }) => {
      const stamp = new Date().toISOString().slice(0, 19).replaceAll(':', '-')
      const destination = folder === undefined ? join(home(), BACKUPS, stamp) : resolve(folder)
      mkdirSync(join(destination, '..'), { recursive: true, mode: 0o700 })
      const manifest = await createBackup({
        home: home(),
        destination,
        masterKey: options.masterKey === true,
        machines: options.machines === true,
        signal: io.signal,
      })
      io.print(destination)
      io.note(`${manifest.files} files, ${(manifest.bytes / 1024 ** 2).toFixed(1)} MiB`)
      if (folder === undefined) io.note('It lies on the disk that it is to replace: copy it elsewhere.')
      if (!manifest.masterKey) io.note('The key of the secrets is not in it: keep a copy of that apart.')
    })

  program
    .command('restore')
    .description('Put a backup in the place of what the data folder holds; no server may run on it.')
    .argument('<backup>', "a backup's folder, or the file of a daily one: the database alone")
    .action(async (backup: string) => {
      mkdirSync(home(), { recursive: true, mode: 0o700 })
      using _lock = lockDataFolder(home())
      const aside = await restoreBackup({ home: home(), from: resolve(backup), signal: io.signal })
      io.print(`restored ${home()}`)
      io.note(`What was there before is in ${aside}: remove it when all is well.`)
    })
}
