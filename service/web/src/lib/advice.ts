/** Plain words about a run, by rules over its numbers, each with what to change. */

import type { Series } from './series';

export interface Advice {
  id: 'flat' | 'diverging' | 'overfitting' | 'rate-too-high' | 'unfinished' | 'dead-units';
  text: string;
  /** Training values that are worth a try instead. */
  change: (training: any) => any;
  label: string;
}

const FEWEST = 10;

/** A loss below this is learned, whatever it does there. */
const LEARNED = 1e-3;

const numbers = (column: (number | null)[]): number[] =>
  column.filter((value): value is number => value !== null);

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);

const rate = (training: any): number => training.optimizer?.learning_rate ?? 0.01;

const withRate = (factor: number) => (training: any) => ({
  ...training,
  optimizer: { ...training.optimizer, learning_rate: Number((rate(training) * factor).toPrecision(3)) },
});

/** The share of steps in which the loss went up. */
function restlessness(losses: number[]): number {
  let ups = 0;
  for (let at = 1; at < losses.length; at++) if (losses[at]! > losses[at - 1]! * 1.05) ups++;
  return ups / Math.max(losses.length - 1, 1);
}

/**
 * Return what is worth saying, the most important first.
 *
 * @param training the values it was trained with; one that stops early keeps its best weights.
 * @param deadShare the share of hidden units that never fire, where it is known.
 */
export function advise(series: Series, stopReason: string | null, training: any = {}, deadShare = 0): Advice[] {
  // What was broken off says nothing of its training values.
  if (stopReason === 'user' || stopReason === 'error' || stopReason === 'interrupted') return [];
  const train = numbers(series.train_loss);
  const validation = numbers(series.validation_loss);
  const found: Advice[] = [];
  const first = train[0];
  const last = train.at(-1);
  const best = Math.min(...validation);
  // Weights that were trained before begin with next to no loss: more of it may be less learned by heart.
  const gained = validation.length > 0 && validation.at(-1)! <= validation[0]!;
  const rose = first !== undefined && last !== undefined && last > 4 * first && last > LEARNED;
  if (stopReason === 'diverged' || (rose && !gained)) {
    found.push({
      id: 'diverging',
      text: 'The loss ran away. The steps are too long for this network.',
      label: 'A tenth of the learning rate, gradients clipped',
      change: (training) => ({ ...withRate(0.1)(training), gradient_clip_norm: 1 }),
    });
    return found;
  }
  if (train.length < FEWEST || first === undefined || last === undefined) return found;
  const recent = train.slice(-Math.max(FEWEST, Math.floor(train.length / 5)));
  if (restlessness(recent) > 0.35 && last > Math.max(0.02 * first, LEARNED)) {
    found.push({
      id: 'rate-too-high',
      text: 'The loss jumps up and down instead of settling: the learning rate is too high.',
      label: 'A third of the learning rate',
      change: withRate(1 / 3),
    });
  }
  if (deadShare > 0.4) {
    found.push({
      id: 'dead-units',
      text: `${Math.round(deadShare * 100)} % of the hidden units are never active. A lower rate keeps more of them alive.`,
      label: 'Half of the learning rate',
      change: withRate(0.5),
    });
  }
  if (last < LEARNED && !(validation.at(-1)! > LEARNED)) return found;
  if (last > 0.97 * first && !gained) {
    found.push({
      id: 'flat',
      text: 'The loss has hardly moved. The steps may be too short, or the inputs too far apart in size.',
      label: 'Three times the learning rate, inputs standardised',
      change: (training) => ({ ...withRate(3)(training), standardize: true }),
    });
    return found;
  }
  const at = validation.indexOf(best);
  const stopsEarly = training.early_stopping != null;
  if (!stopsEarly && validation.length >= FEWEST && at < 0.7 * validation.length && mean(validation.slice(-5)) > 1.1 * best) {
    found.push({
      id: 'overfitting',
      text: `Validation was best at epoch ${series.epoch[at] ?? at + 1} and got worse since: the network learns the rows by heart.`,
      label: 'Stop early, and hold weights down',
      change: (training) => ({
        ...training,
        early_stopping: { patience: Math.max(10, Math.round(training.epochs / 10)), min_delta: 0 },
        l2: Math.max(training.l2 ?? 0, 0.001),
      }),
    });
  }
  // More epochs are worth it for what rows gain that were never learned, where there are any.
  const watched = validation.length >= FEWEST ? validation : train;
  const half = mean(watched.slice(Math.floor(0.8 * watched.length), Math.floor(0.9 * watched.length)));
  const end = mean(watched.slice(Math.floor(0.9 * watched.length)));
  const constant = numbers(series.learning_rate).every((value, _, all) => value === all[0]);
  if (stopReason === 'epochs_done' && constant && end < 0.95 * half && last > 1e-3) {
    found.push({
      id: 'unfinished',
      text: 'The loss was still falling when the epochs ran out.',
      label: 'Twice the epochs',
      change: (training) => ({ ...training, epochs: training.epochs * 2 }),
    });
  }
  return found;
}
