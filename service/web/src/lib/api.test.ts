import { describe, expect, it } from 'vitest';
import { parseEvents, path } from './api';

describe('parseEvents', () => {
  it('gives whole events and keeps what is cut', () => {
    const [events, rest] = parseEvents('id: 1\nevent: epoch\ndata: {"epoch":1}\n\n: beat\n\nid: 2\nev');

    expect(events).toEqual([{ id: '1', type: 'epoch', data: { epoch: 1 } }]);
    expect(rest).toBe('id: 2\nev');
  });
});

describe('path', () => {
  it('escapes names', () => {
    expect(path('networks', 'a/b ü', 'classify')).toBe('/v1/networks/a%2Fb%20%C3%BC/classify');
  });
});
