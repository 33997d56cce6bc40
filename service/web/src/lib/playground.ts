/** The playground's settings, and how they stand in an address. */

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

/** The part of the plane that is drawn. */
export const RANGE: Record<Settings['data'], [number, number]> = {
  xor: [-0.6, 1.6],
  circles: [-1.6, 1.6],
  moons: [-2, 3],
  spirals: [-1.6, 1.6],
  points: [-1, 1],
};

/** Return the settings as a query, without what is as usual. */
export function toQuery(settings: Settings): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) {
    const usual = DEFAULTS[name as keyof Settings];
    if (JSON.stringify(value) === JSON.stringify(usual)) continue;
    if (name === 'points') {
      query.set(name, settings.points.map((p) => `${p.x.toFixed(2)}_${p.y.toFixed(2)}_${p.label}`).join('~'));
    } else query.set(name, Array.isArray(value) ? value.join('-') : String(value));
  }
  return query.toString();
}

const bounded = (text: string, low: number, high: number, usual: number): number => {
  const value = Number(text);
  return text !== '' && Number.isFinite(value) ? Math.min(Math.max(value, low), high) : usual;
};

const one = <T extends string>(text: string, choices: readonly T[], usual: T): T =>
  choices.find((choice) => choice === text) ?? usual;

/** Return the settings of a query; whatever does not fit is as usual. */
export function fromQuery(text: string): Settings {
  const query = new URLSearchParams(text);
  const told = (name: keyof Settings): string => query.get(name) ?? '';
  const units = told('units')
    .split('-')
    .map((part) => Math.round(bounded(part, 1, 16, 0)))
    .filter((part) => part > 0)
    .slice(0, 4);
  const points = told('points')
    .split('~')
    .map((part) => part.split('_').map(Number))
    .filter((part) => part.length === 3 && part.every(Number.isFinite))
    .slice(0, 500)
    .map(([x, y, label]) => ({ x: x!, y: y!, label: label ? 1 : 0 }) as Point);
  return {
    data: one(told('data'), CHOICES.data, DEFAULTS.data),
    noise: bounded(told('noise'), 0, 1, DEFAULTS.noise),
    units: query.has('units') && units.length ? units : DEFAULTS.units,
    activation: one(told('activation'), CHOICES.activation, 'tanh'),
    optimizer: one(told('optimizer'), CHOICES.optimizer, 'adam'),
    rate: bounded(told('rate'), 1e-5, 3, DEFAULTS.rate),
    schedule: one(told('schedule'), CHOICES.schedule, 'constant'),
    dropout: bounded(told('dropout'), 0, 0.8, 0),
    l2: bounded(told('l2'), 0, 1, 0),
    epochs: Math.round(bounded(told('epochs'), 1, 5000, DEFAULTS.epochs)),
    seed: Math.round(bounded(told('seed'), 0, 1e6, 1)),
    points,
  };
}

/** Return the layers that the settings describe: two inputs, one output. */
export function layersOf(settings: Settings): object[] {
  const hidden = settings.units.flatMap((units) => [
    { type: 'dense', units, activation: settings.activation },
    ...(settings.dropout ? [{ type: 'dropout', rate: settings.dropout }] : []),
  ]);
  return [...hidden, { type: 'dense', units: 1, activation: 'sigmoid' }];
}

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

/** Return a grid's bytes. */
export function gridOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
}
