/** The public API, as any client calls it. */

export interface Fault {
  pointer: string;
  detail: string;
  row?: number;
  column?: string;
}

/** What the server refuses, in its own words. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly faults: Fault[] = [],
  ) {
    super(detail);
  }
}

const KEY = 'neurond-key';

export const key = {
  get: (): string => sessionStorage.getItem(KEY) ?? '',
  set: (value: string): void => sessionStorage.setItem(KEY, value),
};

export interface Call {
  method: string;
  path: string;
  body?: unknown;
}

function headers(more: Record<string, string> = {}): Record<string, string> {
  const secret = key.get();
  return secret ? { ...more, Authorization: `Bearer ${secret}` } : more;
}

async function refusal(answer: Response): Promise<Refusal> {
  try {
    const told = await answer.json();
    return new Refusal(answer.status, told.code, told.detail, told.errors);
  } catch {
    return new Refusal(answer.status, 'unreadable', `the server answered ${answer.status}`);
  }
}

/** Send a raw body, or none. */
export async function send(
  method: string,
  path: string,
  body?: BodyInit,
  type?: string,
): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, { method, body, headers: headers(type ? { 'Content-Type': type } : {}) });
  } catch {
    throw new Refusal(0, 'unreachable', 'the server does not answer');
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** Send JSON and return JSON. */
export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await send(method, path, text, text && 'application/json');
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

export const get = <T>(path: string): Promise<T> => ask<T>('GET', path);
export const post = <T>(path: string, body: unknown = {}): Promise<T> => ask<T>('POST', path, body);

export interface ServerEvent {
  id: string;
  type: string;
  data: any;
}

/** Split server-sent events out of what has arrived; return them with what is left over. */
export function parseEvents(text: string): [ServerEvent[], string] {
  const events: ServerEvent[] = [];
  const blocks = text.split('\n\n');
  const rest = blocks.pop() ?? '';
  for (const block of blocks) {
    const event = { id: '', type: 'message', data: '' };
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':');
      const name = line.slice(0, colon);
      const value = line.slice(colon + 1).replace(/^ /, '');
      if (name === 'id') event.id = value;
      else if (name === 'event') event.type = value;
      else if (name === 'data') event.data += value;
    }
    if (event.data) events.push({ ...event, data: JSON.parse(event.data) });
  }
  return [events, rest];
}

const WAITS = [250, 500, 1000, 2000];

/**
 * Follow a job's events from its beginning to its end, through restarts of the server.
 *
 * @param onEvents is given events in batches, as they arrive.
 * @param onLost is told when the connection is lost (true) and found again (false).
 * @returns a function that stops to follow.
 */
export function follow(
  job: string,
  onEvents: (events: ServerEvent[]) => void,
  onLost: (lost: boolean) => void = () => {},
): () => void {
  const stop = new AbortController();
  let last = '';
  const run = async (): Promise<void> => {
    for (let failures = 0; !stop.signal.aborted; ) {
      try {
        const answer = await fetch(`/v1/jobs/${job}/events`, {
          headers: headers({ Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) }),
          signal: stop.signal,
        });
        if (answer.status === 204) return;
        if (!answer.ok || !answer.body) throw await refusal(answer);
        onLost(false);
        failures = 0;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = '';
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const [events, left] = parseEvents(rest + value);
          rest = left;
          const ended = events.some((event) => event.type === 'end' && event.id);
          for (const event of events) if (event.id) last = event.id;
          if (events.length) onEvents(events);
          if (ended) return;
        }
      } catch (error) {
        const final = error instanceof Refusal && [401, 403, 404].includes(error.status);
        if (stop.signal.aborted || final) return;
        onLost(true);
      }
      await new Promise((resolve) => setTimeout(resolve, WAITS[Math.min(failures++, 3)]));
    }
  };
  void run();
  return () => stop.abort();
}

export interface Layer {
  type: 'dense' | 'dropout';
  units?: number;
  activation?: string | { type: string };
  rate?: number;
}

export interface Network {
  id: string;
  name: string;
  input_shape: number[];
  output_shape: number[];
  layers: Layer[];
  labels: string[] | null;
  dtype: string;
  parameter_count: number;
  latest_version: number;
  aliases: Record<string, number>;
  created_at: string;
}

export interface Version {
  version: number;
  origin: string;
  parent: number | null;
  job: string | null;
  aliases: string[];
  metrics: Record<string, number> | null;
  weights_sha256: string;
  created_at: string;
}

export interface Progress {
  epoch: number;
  epochs: number;
  fraction: number;
  train_loss: number | null;
  validation_loss: number | null;
  train_accuracy: number | null;
  validation_accuracy: number | null;
  learning_rate: number | null;
  gradient_norm: number | null;
  epochs_per_second: number | null;
  eta_seconds: number | null;
  best_epoch: number | null;
}

export interface Job {
  id: string;
  network: string;
  network_id: string;
  dataset: string;
  dataset_id: string;
  status: string;
  terminal: boolean;
  stop_reason: string | null;
  allowed_actions: string[];
  queue_position: number | null;
  attempt: number;
  base_version: number;
  result_version: number | null;
  progress: Progress;
  training: any;
  created_at: string;
  error: { code: string; detail: string } | null;
}

export interface Dataset {
  id: string;
  name: string;
  rows: number;
  input_shape: number[];
  task: 'classification' | 'regression';
  labels: string[] | null;
  columns: string[];
  class_counts: Record<string, number> | null;
  created_at: string;
}

export interface Page<T> {
  data: T[];
  has_more: boolean;
}

export interface Prediction {
  label: string;
  class_index: number;
  probability: number;
  probabilities: number[];
}

/** Return what a list calls by this name; asking for it by name would be a 404 in the console. */
export async function named<T extends { name: string }>(kind: string, name: string): Promise<T | undefined> {
  let after = '';
  for (;;) {
    const page = await get<Page<T & { id: string }>>(`/v1/${kind}?limit=500${after && `&after=${after}`}`);
    const found = page.data.find((item) => item.name === name);
    if (found || !page.has_more) return found;
    after = page.data.at(-1)!.id;
  }
}

/** Return a path below the API with its names escaped. */
export function path(...parts: (string | number)[]): string {
  return '/v1/' + parts.map((part) => encodeURIComponent(part)).join('/');
}
