/** A CSV as it is looked at before it is sent: columns, kinds, histograms, missing values. */

export interface ColumnFacts {
  name: string;
  kind: 'number' | 'text';
  missing: number;
  distinct: number;
  low: number | null;
  high: number | null;
  /** Counts of ten equal steps for numbers, of the most frequent values for text. */
  bins: { label: string; count: number }[];
}

export interface Table {
  columns: ColumnFacts[];
  rows: string[][];
  /** Rows that have another number of cells than the header, counted from 1. */
  uneven: number[];
}

/** Split CSV into cells (RFC 4180); `limit` rows at most. */
export function parseCsv(text: string, limit = 20_000): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = '';
  let quoted = false;
  for (let at = 0; at < text.length && rows.length < limit; at++) {
    const sign = text[at]!;
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') cell += text[++at];
      else quoted = false;
    } else if (sign === '"' && cell === '') quoted = true;
    else if (sign === ',') {
      row.push(cell);
      cell = '';
    } else if (sign === '\n' || sign === '\r') {
      if (sign === '\r' && text[at + 1] === '\n') at++;
      row.push(cell);
      if (row.length > 1 || row[0] !== '') rows.push(row);
      row = [];
      cell = '';
    } else cell += sign;
  }
  row.push(cell);
  if ((row.length > 1 || row[0] !== '') && rows.length < limit) rows.push(row);
  return rows;
}

const isNumber = (cell: string): boolean => cell.trim() !== '' && Number.isFinite(Number(cell));

function factsOf(name: string, cells: string[]): ColumnFacts {
  const present = cells.filter((cell) => cell.trim() !== '');
  const missing = cells.length - present.length;
  const distinct = new Set(present).size;
  if (present.length && present.every(isNumber)) {
    const values = present.map(Number);
    const low = values.reduce((a, b) => Math.min(a, b));
    const high = values.reduce((a, b) => Math.max(a, b));
    const bins = Array.from({ length: 10 }, (_, at) => ({
      label: String(Number((low + ((high - low) * at) / 10).toPrecision(4))),
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
  const uneven = rows.flatMap((row, at) => (row.length === header.length ? [] : [at + 1]));
  const columns = header.map((name, at) => factsOf(name, rows.map((row) => row[at] ?? '')));
  return { columns, rows, uneven };
}

/** Return the column that is most likely meant: the only text, else the last. */
export function likelyTarget(table: Table): string {
  const texts = table.columns.filter((column) => column.kind === 'text');
  return (texts.length === 1 ? texts[0] : table.columns.at(-1))?.name ?? '';
}
