import { describe, expect, it } from 'vitest';
import {
  DEFAULTS,
  fromQuery,
  gridOf,
  layersOf,
  probabilityGridOf,
  resizeLayers,
  toQuery,
  type Settings,
} from './playground';

describe('the query string', () => {
  it('restores every setting', () => {
    const settings: Settings = {
      ...DEFAULTS,
      data: 'points',
      units: [3, 2, 1],
      rate: 0.5,
      dropout: 0.2,
      points: [{ x: 0.25, y: -0.5, label: 1 }],
    };
    expect(fromQuery(toQuery(settings))).toEqual(settings);
    expect(toQuery(DEFAULTS)).toBe('');
    expect(fromQuery('')).toEqual(DEFAULTS);
  });

  it('replaces or clamps invalid values', () => {
    const settings = fromQuery('data=<script>&units=99-x-3&rate=nan&epochs=1e99&points=1_2~a_b_c');
    expect(settings).toEqual({ ...DEFAULTS, units: [16, 3], epochs: 5000 });
  });
});

describe('the network', () => {
  it('has dropout after each hidden layer', () => {
    const types = layersOf({ ...DEFAULTS, units: [2, 2], dropout: 0.1 }).map((layer: any) => layer.type);
    expect(types).toEqual(['dense', 'dropout', 'dense', 'dropout', 'dense']);
  });

  it('keeps its first layers when the number of layers changes', () => {
    expect(resizeLayers([6, 2], 4)).toEqual([6, 2, 4, 4]);
    expect(resizeLayers([6, 2], 2)).toEqual([6, 2]);
    expect(resizeLayers([6, 2], 1)).toEqual([6]);
  });
});

it('decodes a grid into bytes', () => {
  expect([...gridOf('AP8=')]).toEqual([0, 255]);
});

it('scales the grid of the output to the range of probabilities', () => {
  expect([...probabilityGridOf({ grid: 'AP8=', low: 0, high: 1 })]).toEqual([0, 255]);
  expect([...probabilityGridOf({ grid: 'AP8=', low: 0.2, high: 0.6 })]).toEqual([51, 153]);
});
