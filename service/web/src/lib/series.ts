/** A run's epochs as columns, gathered from its events. */

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

/** Append the epochs among events; an epoch that is known already is passed over. */
export function append(series: Series, events: ServerEvent[]): boolean {
  let grew = false;
  for (const { type, data } of events) {
    const last = series.epoch.at(-1) ?? 0;
    if (type !== 'epoch' || data.epoch <= last) continue;
    for (const name of COLUMNS) series[name].push(data[name] ?? null);
    grew = true;
  }
  return grew;
}
