/** The settings of the playground and their encoding in the URL. */

export interface Point {
  x: number;
  y: number;
  label: 0 | 1;
}

export interface Settings {
  data: 'xor' | 'circles' | 'moons' | 'spirals' | 'points';
  noise: number;
  units: number[];
  activation: string;
  optimizer: string;
  rate: number;
  schedule: string;
  dropout: number;
  l2: number;
  epochs: number;
  seed: number;
  points: Point[];
}

/** The output of a unit on a grid of inputs: bytes in base64, from `low` (0) to `high` (255). */
export interface UnitOutput {
  grid: string;
  low: number;
  high: number;
}

/** The outputs of every unit after an epoch, by layer. */
export interface Frame {
  epoch: number;
  resolution: number;
  layers: UnitOutput[][];
}

export const DEFAULTS: Settings = {
  data: 'circles',
  noise: 0.1,
  units: [6, 4],
  activation: 'tanh',
  optimizer: 'adam',
  rate: 0.02,
  schedule: 'constant',
  dropout: 0,
  l2: 0,
  epochs: 400,
  seed: 1,
  points: [],
};

export const CHOICES = {
  data: ['circles', 'xor', 'moons', 'spirals', 'points'],
  activation: ['tanh', 'relu', 'leaky_relu', 'sigmoid', 'linear'],
  optimizer: ['adam', 'adamw', 'sgd', 'rmsprop'],
  schedule: ['constant', 'cosine', 'step', 'linear', 'exponential', 'warmup_cosine'],
} as const;

/** The range of both axes in the plot of each dataset. */
export const RANGE: Record<Settings['data'], [number, number]> = {
  xor: [-0.6, 1.6],
  circles: [-1.6, 1.6],
  moons: [-2, 3],
  spirals: [-1.6, 1.6],
  points: [-1, 1],
};

/** Return the settings as a query string, without those that have their default value. */
export function toQuery(settings: Settings): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) {
    const preset = DEFAULTS[name as keyof Settings];
    if (JSON.stringify(value) === JSON.stringify(preset)) continue;
    if (name === 'points') {
      query.set(name, settings.points.map((p) => `${p.x.toFixed(2)}_${p.y.toFixed(2)}_${p.label}`).join('~'));
    } else query.set(name, Array.isArray(value) ? value.join('-') : String(value));
  }
  return query.toString();
}

const clamp = (text: string, low: number, high: number, fallback: number): number => {
  const value = Number(text);
  return text !== '' && Number.isFinite(value) ? Math.min(Math.max(value, low), high) : fallback;
};

const choose = <T extends string>(text: string, choices: readonly T[], fallback: T): T =>
  choices.find((choice) => choice === text) ?? fallback;

/** Return the settings in a query string, with defaults for missing or invalid values. */
export function fromQuery(text: string): Settings {
  const query = new URLSearchParams(text);
  const parameter = (name: keyof Settings): string => query.get(name) ?? '';
  const units = parameter('units')
    .split('-')
    .map((part) => Math.round(clamp(part, 1, 16, 0)))
    .filter((part) => part > 0)
    .slice(0, 4);
  const points = parameter('points')
    .split('~')
    .map((part) => part.split('_').map(Number))
    .filter((part) => part.length === 3 && part.every(Number.isFinite))
    .slice(0, 500)
    .map(([x, y, label]) => ({ x: x!, y: y!, label: label ? 1 : 0 }) as Point);
  return {
    data: choose(parameter('data'), CHOICES.data, DEFAULTS.data),
    noise: clamp(parameter('noise'), 0, 1, DEFAULTS.noise),
    units: query.has('units') && units.length ? units : DEFAULTS.units,
    activation: choose(parameter('activation'), CHOICES.activation, 'tanh'),
    optimizer: choose(parameter('optimizer'), CHOICES.optimizer, 'adam'),
    rate: clamp(parameter('rate'), 1e-5, 3, DEFAULTS.rate),
    schedule: choose(parameter('schedule'), CHOICES.schedule, 'constant'),
    dropout: clamp(parameter('dropout'), 0, 0.8, 0),
    l2: clamp(parameter('l2'), 0, 1, 0),
    epochs: Math.round(clamp(parameter('epochs'), 1, 5000, DEFAULTS.epochs)),
    seed: Math.round(clamp(parameter('seed'), 0, 1e6, 1)),
    points,
  };
}

/** Return the layers of the network, which has two inputs and one output. */
export function layersOf(settings: Settings): object[] {
  const hidden = settings.units.flatMap((units) => [
    { type: 'dense', units, activation: settings.activation },
    ...(settings.dropout ? [{ type: 'dropout', rate: settings.dropout }] : []),
  ]);
  return [...hidden, { type: 'dense', units: 1, activation: 'sigmoid' }];
}

/** Return the training configuration. */
export function trainingOf(settings: Settings): object {
  const [low, high] = RANGE[settings.data];
  return {
    epochs: settings.epochs,
    batch_size: 16,
    optimizer: { type: settings.optimizer, learning_rate: settings.rate },
    schedule: { type: settings.schedule },
    l2: settings.l2,
    seed: settings.seed,
    validation_fraction: settings.data === 'points' || settings.data === 'xor' ? 0 : 0.3,
    standardize: false,
    boundary: { resolution: 40, x: [low, high], y: [low, high] },
  };
}

/** Decode a base64 grid into bytes. */
export function gridOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/**
 * Return the grid of the output unit, scaled so that probability 0.5 is white.
 *
 * The output is a probability: 0 is blue and 1 is orange, whatever range it currently has.
 */
export function probabilityGridOf({ grid, low, high }: UnitOutput): Uint8Array {
  return gridOf(grid).map((byte) => (low + (byte / 255) * (high - low)) * 255);
}

/** Return the hidden layers with `count` layers; new layers have 4 units. */
export function resizeLayers(units: number[], count: number): number[] {
  const added = Array<number>(Math.max(count - units.length, 0)).fill(4);
  return [...units, ...added].slice(0, count);
}
