/** The built-in datasets that the playground creates on the server. */

import { findByName, get, path, post, request, type Dataset } from './api';
import type { Point, Settings } from './playground';

export type DatasetSettings = Pick<Settings, 'data' | 'noise' | 'seed'>;

/** Return the name of the dataset with these settings. */
export function nameOf({ data, noise, seed }: DatasetSettings): string {
  return `playground-${data}-${noise}-${seed}`;
}

/** Return the rows of a dataset as points. The first label is blue. */
export function pointsOf(rows: any): Point[] {
  const firstLabel = rows.labels?.[0] ?? rows.data?.[0]?.target;
  return rows.data.map((row: any) => ({
    x: row.inputs[0],
    y: row.inputs[1],
    label: String(row.target) === String(firstLabel) ? 0 : 1,
  }));
}

/** Create datasets on demand, and delete each when the next one replaces it. */
export class PlaygroundDatasets {
  private previous = '';
  private pending: Promise<unknown> = Promise.resolve();

  /** @param isUsed returns whether a job of this page may use the previous dataset. */
  constructor(private readonly isUsed: () => boolean) {}

  /**
   * Create the dataset unless it exists, and return its name.
   *
   * Calls run one at a time, because plotting and training may request the same dataset.
   */
  create(settings: DatasetSettings): Promise<string> {
    const created = this.pending.then(() => this.createNext(settings));
    this.pending = created.catch(() => {});
    return created;
  }

  /** Create the dataset unless it exists, and return its points. */
  async load(settings: DatasetSettings): Promise<Point[]> {
    const name = await this.create(settings);
    return pointsOf(await get<any>(path('datasets', name, 'rows') + '?limit=400'));
  }

  private async createNext(settings: DatasetSettings): Promise<string> {
    const { data, noise, seed } = settings;
    const name = nameOf(settings);
    if (!(await findByName<Dataset>('datasets', name))) {
      const samples = data === 'xor' ? 200 : 300;
      await post('/v1/datasets', { name, builtin: data, samples, noise, seed });
    }
    if (this.previous && this.previous !== name) {
      // A dataset that a job uses cannot be deleted. Ignore that error.
      const old = await findByName<Dataset>('datasets', this.previous);
      if (old && !this.isUsed()) await request('DELETE', path('datasets', old.id)).catch(() => {});
    }
    this.previous = name;
    return name;
  }
}
