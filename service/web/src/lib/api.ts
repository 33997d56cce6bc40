/** A client for the public HTTP API. */

export interface FieldError {
  pointer: string;
  detail: string;
  row?: number;
  column?: string;
}

/** An error response of the server; the message is its `detail`. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly fieldErrors: FieldError[] = [],
  ) {
    super(detail);
  }
}

const STORAGE_KEY = 'neurond-key';

export const apiKey = {
  get: (): string => sessionStorage.getItem(STORAGE_KEY) ?? '',
  set: (value: string): void => sessionStorage.setItem(STORAGE_KEY, value),
};

export interface Call {
  method: string;
  path: string;
  body?: unknown;
}

function withApiKey(headers: Record<string, string> = {}): Record<string, string> {
  const secret = apiKey.get();
  return secret ? { ...headers, Authorization: `Bearer ${secret}` } : headers;
}

async function toApiError(response: Response): Promise<ApiError> {
  try {
    const body = await response.json();
    return new ApiError(response.status, body.code, body.detail, body.errors);
  } catch {
    return new ApiError(response.status, 'unreadable', `the server responded with status ${response.status}`);
  }
}

/** Send a request with an optional raw body. Throw an `ApiError` if it fails. */
export async function send(
  method: string,
  path: string,
  body?: BodyInit,
  type?: string,
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { method, body, headers: withApiKey(type ? { 'Content-Type': type } : {}) });
  } catch {
    throw new ApiError(0, 'unreachable', 'cannot reach the server; check that it is running');
  }
  if (!response.ok) throw await toApiError(response);
  return response;
}

/** Send a JSON body and return the JSON response. */
export async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const response = await send(method, path, text, text && 'application/json');
  return (response.status === 204 ? undefined : await response.json()) as T;
}

export const get = <T>(path: string): Promise<T> => request<T>('GET', path);
export const post = <T>(path: string, body: unknown = {}): Promise<T> => request<T>('POST', path, body);

export interface ServerEvent {
  id: string;
  type: string;
  data: any;
}

/** Parse the complete server-sent events in `text`. Return them and the incomplete remainder. */
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

const RETRY_DELAYS_MS = [250, 500, 1000, 2000];

/**
 * Stream a job's events from the first to the last. Reconnect when the server restarts.
 *
 * @param onEvents receives the events in batches, as they arrive.
 * @param onLost receives true when the connection is lost and false when it is restored.
 * @returns a function that ends the stream.
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
        const response = await fetch(`/v1/jobs/${job}/events`, {
          headers: withApiKey({ Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) }),
          signal: stop.signal,
        });
        if (response.status === 204) return;
        if (!response.ok || !response.body) throw await toApiError(response);
        onLost(false);
        failures = 0;
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = '';
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          const [events, remainder] = parseEvents(rest + value);
          rest = remainder;
          const ended = events.some((event) => event.type === 'end' && event.id);
          for (const event of events) if (event.id) last = event.id;
          if (events.length) onEvents(events);
          if (ended) return;
        }
      } catch (error) {
        const isFinal = error instanceof ApiError && [401, 403, 404].includes(error.status);
        if (stop.signal.aborted || isFinal) return;
        onLost(true);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAYS_MS[Math.min(failures++, 3)]));
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

/**
 * Return the network or dataset with this name, or undefined.
 *
 * Search the list, because a GET by name would log a 404 in the console for an unused name.
 */
export async function findByName<T extends { name: string }>(kind: string, name: string): Promise<T | undefined> {
  let after = '';
  for (;;) {
    const page = await get<Page<T & { id: string }>>(`/v1/${kind}?limit=500${after && `&after=${after}`}`);
    const match = page.data.find((item) => item.name === name);
    if (match || !page.has_more) return match;
    after = page.data.at(-1)!.id;
  }
}

/** Return an API path with its segments percent-encoded. */
export function path(...segments: (string | number)[]): string {
  return '/v1/' + segments.map((segment) => encodeURIComponent(segment)).join('/');
}
