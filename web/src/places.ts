/**
 * The items of a list that never changes its order, each with its place. Texts that were split into lines have no better
 * identity than that, and React wants one.
 */
export function withPlaces<Item>(items: readonly Item[]): { place: number; item: Item }[] {
  return items.map((item, place) => ({ place, item }))
}
