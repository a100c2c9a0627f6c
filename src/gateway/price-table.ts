import { DEAREST, LIST_PRICES, withCachePrices, type ModelPrice } from './prices.ts'

/** A price as settings give it, in US dollars per million tokens; what cached tokens cost follows from the input's price if left out. */
export interface PriceOverride {
  input: number
  output: number
  cacheRead?: number | undefined
  cacheWrite5m?: number | undefined
  cacheWrite1h?: number | undefined
}

/** What models cost: the list prices that ship with the program, and a server's own. */
export class PriceTable {
  readonly #prices: ReadonlyMap<string, ModelPrice>

  constructor(overrides: Readonly<Record<string, PriceOverride>> = {}) {
    const own = Object.entries(overrides).map(([model, price]) => [model, completed(price)] as const)
    this.#prices = new Map([...Object.entries(LIST_PRICES), ...own])
  }

  /**
   * The price of a model, also under a dated or marked name (`…-20251001`, `…-latest`, `…@20251001`, `…[1m]`). Undefined
   * for a model that is not in the table: a newer version's price can't be guessed from an older one's.
   */
  find(model: string): ModelPrice | undefined {
    return this.#prices.get(model) ?? this.#prices.get(plainName(model))
  }

  /** What a budget is charged: a model without a known price is not free but as dear as the dearest. */
  charged(model: string): ModelPrice {
    return this.find(model) ?? DEAREST
  }
}

function completed({ input, output, ...cached }: PriceOverride): ModelPrice {
  const usual = withCachePrices(input, output, input / 10)
  return {
    ...usual,
    cacheRead: cached.cacheRead ?? usual.cacheRead,
    cacheWrite5m: cached.cacheWrite5m ?? usual.cacheWrite5m,
    cacheWrite1h: cached.cacheWrite1h ?? usual.cacheWrite1h,
  }
}

function plainName(model: string): string {
  return model.replace(/\[\w+\]$/, '').replace(/(?:[-@]\d{8}|-latest)$/, '')
}
