import type { Storage } from '../types.ts'

/** A disk that takes everything, or fails at once. */
export const SOUND_STORAGE: Storage = {
  problem: async () => undefined,
  lastProblem: undefined,
  holdsBack: false,
  persist: (work) => work(),
  watch: () => () => {},
  hurry() {},
}
