/** Summarize a CSV file before it is uploaded: columns, kinds, histograms and missing values. */

export interface ColumnSummary {
  name: string;
  kind: 'number' | 'text';
  missing: number;
  distinct: number;
  low: number | null;
  high: number | null;
  /** Counts in ten equal intervals for numbers, and of the ten most frequent values for text. */
  bins: { label: string; count: number }[];
}

export interface Table {
  columns: ColumnSummary[];
  rows: string[][];
  /** Numbers of the rows whose cell count differs from the header, starting at 1. */
  uneven: number[];
}

/** Split CSV text into cells (RFC 4180), reading at most `limit` rows. */
export function parseCsv(text: string, limit = 20_000): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = '';
  let quoted = false;
  for (let index = 0; index < text.length && rows.length < limit; index++) {
    const character = text[index]!;
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[index + 1] === '"') cell += text[++index];
      else quoted = false;
    } else if (character === '"' && cell === '') quoted = true;
    else if (character === ',') {
      row.push(cell);
      cell = '';
    } else if (character === '\n' || character === '\r') {
      if (character === '\r' && text[index + 1] === '\n') index++;
      row.push(cell);
      if (row.length > 1 || row[0] !== '') rows.push(row);
      row = [];
      cell = '';
    } else cell += character;
  }
  row.push(cell);
  if ((row.length > 1 || row[0] !== '') && rows.length < limit) rows.push(row);
  return rows;
}

const isNumber = (cell: string): boolean => cell.trim() !== '' && Number.isFinite(Number(cell));

function summarize(name: string, cells: string[]): ColumnSummary {
  const present = cells.filter((cell) => cell.trim() !== '');
  const missing = cells.length - present.length;
  const distinct = new Set(present).size;
  if (present.length && present.every(isNumber)) {
    const values = present.map(Number);
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const bins = Array.from({ length: 10 }, (_, index) => ({
      label: String(Number((low + ((high - low) * index) / 10).toPrecision(4))),
      count: 0,
    }));
    for (const value of values) {
      bins[Math.min(9, Math.floor(((value - low) / (high - low || 1)) * 10))]!.count++;
    }
    return { name, kind: 'number', missing, distinct, low, high, bins };
  }
  const counts = new Map<string, number>();
  for (const cell of present) counts.set(cell, (counts.get(cell) ?? 0) + 1);
  const bins = [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, 10)
    .map(([label, count]) => ({ label, count }));
  return { name, kind: 'text', missing, distinct, low: null, high: null, bins };
}

export function tableOf(text: string): Table {
  const [header = [], ...rows] = parseCsv(text.replace(/^\uFEFF/, ''));
  const uneven = rows.flatMap((row, index) => (row.length === header.length ? [] : [index + 1]));
  const columns = header.map((name, index) => summarize(name, rows.map((row) => row[index] ?? '')));
  return { columns, rows, uneven };
}

/** Return the most likely target: the only text column, otherwise the last column. */
export function likelyTarget(table: Table): string {
  const texts = table.columns.filter((column) => column.kind === 'text');
  return (texts.length === 1 ? texts[0] : table.columns.at(-1))?.name ?? '';
}
