import { VivariumError } from '../contracts/errors.ts'
import { newId } from '../contracts/ids.ts'
import type { MachineInfo } from '../contracts/machine.ts'
import { DEFAULT_TEMPLATE } from '../contracts/template.ts'
import { removeWhenLost } from './endings.ts'
import type { Entries, Entry } from './entries.ts'
import type { HousedMachine } from './housed-machine.ts'
import { startMachine, type Origin, type StartContext } from './start-machine.ts'
import type { TemplateService } from './templates/templates.ts'
import type { Engine, MachineOptions } from './types.ts'

/** A machine that could not be started from a template is tried once more. */
const MAX_TRIES = 2

export interface StarterOptions extends Omit<StartContext, 'engine'> {
  entries: Entries
  /** Undefined where machines are always booted. */
  templates: TemplateService | undefined
  /** Called when nothing of a machine is left. */
  forget: (id: string) => void
}

type Begin = (origin: Origin) => Promise<HousedMachine>

/** Starts machines, and knows what from: a boot, a template, or another machine. */
export class Starter {
  readonly #options: StarterOptions

  constructor(options: StarterOptions) {
    this.#options = options
  }

  /** What is asked for, from the template that fits; by a boot where there is none, or no machine comes up from it. */
  start(request: MachineOptions, engine: Engine): Promise<HousedMachine> {
    return this.#run(request, engine, async (entry, signal, begin) => {
      for (let tries = 1; ; tries += 1) {
        const origin = await this.#choose(request, engine, { entry, signal, tries })
        if (origin.from !== 'template') return begin(origin)
        const { folder } = origin.saved
        try {
          const machine = await begin(origin)
          this.#options.templates?.worked(folder)
          return machine
        } catch (error) {
          if (signal.aborted) throw error
          await this.#options.templates?.failed(folder, error instanceof Error ? error.message : String(error))
          if (tries >= MAX_TRIES) throw error
        }
      }
    })
  }

  /** A copy of a suspended machine, which stays as it is meanwhile. */
  fork(request: MachineOptions, of: HousedMachine, engine: Engine): Promise<HousedMachine> {
    const { memoryMib, vcpus } = of.info()
    return of.withSaved(({ folder, dependsOn }) => {
      const origin: Origin = { from: 'fork', of: of.id, saved: { folder, disk: 'copy' }, dependsOn }
      return this.#run({ ...request, memoryMib, vcpus }, engine, (_entry, _signal, begin) => begin(origin))
    })
  }

  /** One that boots with its disks in a folder of its own. */
  boot(
    request: MachineOptions,
    engine: Engine,
    origin: Omit<Extract<Origin, { from: 'boot' }>, 'from'>,
  ): Promise<HousedMachine> {
    return this.#run(request, engine, (_entry, _signal, begin) => begin({ from: 'boot', ...origin }))
  }

  /** Enters a machine, and calls `how` with what starts it. */
  async #run(
    request: MachineOptions,
    engine: Engine,
    how: (entry: Entry, signal: AbortSignal, begin: Begin) => Promise<HousedMachine>,
  ): Promise<HousedMachine> {
    const { entries, forget } = this.#options
    const { id = newId('vm'), memoryMib, vcpus } = request
    const createdAt = new Date().toISOString()
    const entry = entries.add({ id, engine: engine.name, memoryMib, vcpus, createdAt }, request)
    const { start, record, started } = entry
    const signal = request.signal === undefined ? start.signal : AbortSignal.any([start.signal, request.signal])
    const begin = (origin: Origin) => {
      entry.template = origin.from === 'template' ? origin.saved.folder : undefined
      record.cameFrom(shownOrigin(origin))
      return startMachine({ ...this.#options, engine }, record, {
        ...request,
        origin,
        forget: () => forget(id),
        signal,
      })
    }
    try {
      const machine = await how(entry, signal, begin)
      entry.machine = machine
      started.resolve(machine)
      removeWhenLost(entry, machine)
      return machine
    } catch (thrown) {
      forget(id)
      const error = this.#reasonOf(id, thrown)
      started.reject(error)
      throw error
    }
  }

  /** What a machine starts from: a named template (built now if need be), the plain one if it is there, or a boot. */
  async #choose(
    { template, memoryMib, vcpus }: MachineOptions,
    { capabilities }: Engine,
    { entry, signal, tries }: { entry: Entry; signal: AbortSignal; tries: number },
  ): Promise<Origin> {
    const templates = capabilities.snapshots ? this.#options.templates : undefined
    const shape = { name: template ?? DEFAULT_TEMPLATE, memoryMib, vcpus }
    if (template !== undefined) {
      if (templates === undefined)
        throw new VivariumError('conflict', 'This server has no templates (template.enabled, or its engine).')
      entry.record.enter('template')
      return { from: 'template', template, saved: { folder: await templates.obtain(shape, signal), disk: 'over' } }
    }
    const folder = tries === 1 ? await templates?.find(shape) : undefined
    if (folder !== undefined) return { from: 'template', template: shape.name, saved: { folder, disk: 'over' } }
    templates?.want(shape)
    return { from: 'boot', memory: 'anonymous' }
  }

  /** What ended a start. If removing its remains failed too, that is logged: they stay in the journal for `reconcile`. */
  #reasonOf(machineId: string, error: unknown): unknown {
    if (!(error instanceof SuppressedError)) return error
    this.#options.log.error({ err: error.error, machineId }, 'a machine that did not start could not be removed')
    return this.#reasonOf(machineId, error.suppressed)
  }
}

function shownOrigin(origin: Origin): Pick<MachineInfo, 'startedFrom' | 'template'> {
  return { startedFrom: origin.from, template: origin.from === 'template' ? origin.template : null }
}
