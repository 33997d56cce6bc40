import { describe, expect, it } from 'vitest';
import { likelyTarget, parseCsv, tableOf } from './table';

describe('parseCsv', () => {
  it('accepts quotes, commas and line breaks inside cells', () => {
    expect(parseCsv('a,"b ""c"", d"\r\n"x\ny",2\n')).toEqual([
      ['a', 'b "c", d'],
      ['x\ny', '2'],
    ]);
  });
});

describe('tableOf', () => {
  const table = tableOf('x,species\n1,iris\n3,iris\n,rose\n2\n');

  it('reports kinds, missing values and histograms', () => {
    expect(table.columns[0]).toMatchObject({ kind: 'number', missing: 1, low: 1, high: 3 });
    expect(table.columns[0]!.bins.map((bin) => bin.count)).toEqual([1, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    expect(table.columns[1]).toMatchObject({ kind: 'text', missing: 1, distinct: 2 });
    expect(table.columns[1]!.bins[0]).toEqual({ label: 'iris', count: 2 });
  });

  it('lists uneven rows and guesses the target', () => {
    expect(table.uneven).toEqual([4]);
    expect(likelyTarget(table)).toBe('species');
    expect(likelyTarget(tableOf('a,b\n1,2\n'))).toBe('b');
  });
});
