/** Inputs of a network that the user types as text. */

export interface ParsedInputs {
  /** The inputs, or null if the text does not contain exactly the expected numbers. */
  values: number[] | null;
  /** The error in the text, or an empty string. An empty text is incomplete, but has no error. */
  error: string;
}

/** Parse `count` numbers that are separated by commas, semicolons or spaces. */
export function parseInputs(text: string, count: number): ParsedInputs {
  const words = text.split(/[\s,;]+/).filter(Boolean);
  const values = words.map(Number);
  const invalid = words.find((_, index) => !Number.isFinite(values[index]));
  if (invalid !== undefined) return { values: null, error: `“${invalid}” is not a number.` };
  if (words.length === count) return { values, error: '' };
  return { values: null, error: words.length ? `Expected ${count} numbers, got ${words.length}.` : '' };
}
