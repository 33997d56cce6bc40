/** The epochs of a training run as columns, collected from its events. */

import type { ServerEvent } from './api';

export const COLUMNS = [
  'epoch',
  'train_loss',
  'validation_loss',
  'train_accuracy',
  'validation_accuracy',
  'learning_rate',
  'gradient_norm',
] as const;

export type Column = (typeof COLUMNS)[number];
export type Series = Record<Column, (number | null)[]>;

export function empty(): Series {
  return Object.fromEntries(COLUMNS.map((name) => [name, []])) as unknown as Series;
}

/** Append the epoch events and skip known epochs. Return true if any epoch was added. */
export function append(series: Series, events: ServerEvent[]): boolean {
  let added = false;
  for (const { type, data } of events) {
    const last = series.epoch.at(-1) ?? 0;
    if (type !== 'epoch' || data.epoch <= last) continue;
    for (const name of COLUMNS) series[name].push(data[name] ?? null);
    added = true;
  }
  return added;
}
