import { describe, expect, it } from 'vitest';
import { parseEvents, path } from './api';

describe('parseEvents', () => {
  it('returns complete events and the incomplete remainder', () => {
    const [events, remainder] = parseEvents('id: 1\nevent: epoch\ndata: {"epoch":1}\n\n: still here\n\nid: 2\nev');

    expect(events).toEqual([{ id: '1', type: 'epoch', data: { epoch: 1 } }]);
    expect(remainder).toBe('id: 2\nev');
  });
});

describe('path', () => {
  it('percent-encodes names', () => {
    expect(path('networks', 'a/b ü', 'classify')).toBe('/v1/networks/a%2Fb%20%C3%BC/classify');
  });
});
