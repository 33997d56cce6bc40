import { describe, expect, it } from 'vitest';
import { curl, javascript, python } from './snippets';

const call = { method: 'POST', path: '/v1/x', body: { name: `it's "1"`, n: [1.5] } };

describe('snippets', () => {
  it('escape quotes', () => {
    expect(curl(call, 'http://h')).toContain(`-d '{"name":"it'\\''s \\"1\\"","n":[1.5]}'`);
    expect(python(call, 'http://h')).toContain(String.raw`json.loads("{\"name\":\"it's \\\"1\\\"\",\"n\":[1.5]}")`);
    expect(javascript(call, 'http://h')).toContain(`JSON.stringify({"name":"it's \\"1\\"","n":[1.5]})`);
  });

  it('omit the body of a call without one', () => {
    expect(curl({ method: 'GET', path: '/v1/x' }, 'http://h')).toBe(`curl -X GET 'http://h/v1/x'`);
  });
});
