import { describe, expect, it } from 'vitest';
import { parseInputs } from './inputs';

describe('parseInputs', () => {
  it('accepts commas, semicolons and spaces between the numbers', () => {
    expect(parseInputs(' 0.5, 1e2;-3\n4 ', 4)).toEqual({ values: [0.5, 100, -3, 4], error: '' });
  });

  it('returns no error for an empty text', () => {
    expect(parseInputs(' ', 2)).toEqual({ values: null, error: '' });
  });

  it('names the first word that is not a finite number', () => {
    expect(parseInputs('1, x, y', 3)).toEqual({ values: null, error: '“x” is not a number.' });
    expect(parseInputs('1, Infinity', 2)).toEqual({ values: null, error: '“Infinity” is not a number.' });
  });

  it('compares the count with the expected count', () => {
    expect(parseInputs('1, 2', 3)).toEqual({ values: null, error: 'Expected 3 numbers, got 2.' });
  });
});
