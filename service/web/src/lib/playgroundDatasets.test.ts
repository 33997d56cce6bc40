import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { nameOf, PlaygroundDatasets, pointsOf, type DatasetSettings } from './playgroundDatasets';

const MOONS: DatasetSettings = { data: 'moons', noise: 0.1, seed: 1 };
const XOR: DatasetSettings = { data: 'xor', noise: 0, seed: 2 };

describe('the points', () => {
  it('have the label 0 for the first label of the dataset', () => {
    const data = [
      { inputs: [1, 2], target: 'b' },
      { inputs: [3, 4], target: 'a' },
    ];
    const [blue, orange] = [{ x: 3, y: 4, label: 0 }, { x: 1, y: 2, label: 1 }];
    expect(pointsOf({ labels: ['a', 'b'], data })).toEqual([orange, blue]);
  });

  it('have the label 0 for the target of the first row if the dataset has no labels', () => {
    const data = [1, 0].map((target) => ({ inputs: [0, 0], target }));
    expect(pointsOf({ labels: null, data }).map((point) => point.label)).toEqual([0, 1]);
  });
});

describe('the datasets', () => {
  let stored: string[];
  let requests: string[];

  /** A server that stores names of datasets, whose ids are their names. */
  async function respond(url: string, { method, body }: RequestInit): Promise<Response> {
    requests.push(method!);
    if (method === 'POST') stored.push(JSON.parse(body as string).name);
    if (method === 'DELETE') stored = stored.filter((name) => !url.endsWith(`/${name}`));
    if (method === 'DELETE') return new Response(null, { status: 204 });
    return Response.json({ data: stored.map((name) => ({ id: name, name })), has_more: false });
  }

  beforeEach(() => {
    stored = [];
    requests = [];
    vi.stubGlobal('fetch', respond);
    vi.stubGlobal('sessionStorage', { getItem: () => null });
  });
  afterEach(() => vi.unstubAllGlobals());

  it('are created once when two calls request the same dataset', async () => {
    const datasets = new PlaygroundDatasets(() => false);

    const names = await Promise.all([datasets.create(MOONS), datasets.create(MOONS)]);

    expect(names).toEqual([nameOf(MOONS), nameOf(MOONS)]);
    expect(requests.filter((method) => method === 'POST')).toHaveLength(1);
  });

  it.each([
    [false, [nameOf(XOR)]],
    [true, [nameOf(MOONS), nameOf(XOR)]],
  ])('are deleted when they are replaced, unless a job uses them (%s)', async (isUsed, expected) => {
    const datasets = new PlaygroundDatasets(() => isUsed);

    await datasets.create(MOONS);
    await datasets.create(XOR);

    expect(stored).toEqual(expected);
  });
});
