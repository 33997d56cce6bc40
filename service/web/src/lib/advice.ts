/** Rules that detect problems in a training run and suggest a configuration change. */

import type { Series } from './series';

export interface Advice {
  id: 'flat' | 'diverging' | 'overfitting' | 'rate-too-high' | 'unfinished' | 'dead-units';
  text: string;
  /** Return the suggested training configuration. */
  change: (training: any) => any;
  label: string;
}

const MIN_EPOCHS = 10;

/** Below this loss, further changes of the loss are ignored. */
const CONVERGED_LOSS = 1e-3;

const numbers = (column: (number | null)[]): number[] =>
  column.filter((value): value is number => value !== null);

const mean = (values: number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(values.length, 1);

const learningRate = (training: any): number => training.optimizer?.learning_rate ?? 0.01;

const scaleLearningRate = (factor: number) => (training: any) => ({
  ...training,
  optimizer: { ...training.optimizer, learning_rate: Number((learningRate(training) * factor).toPrecision(3)) },
});

/** Return the fraction of epochs in which the loss increased by more than 5 %. */
function oscillation(losses: number[]): number {
  let increases = 0;
  for (let index = 1; index < losses.length; index++) if (losses[index]! > losses[index - 1]! * 1.05) increases++;
  return increases / Math.max(losses.length - 1, 1);
}

/**
 * Return advice about a run, the most important first.
 *
 * @param training the configuration of the run; with early stopping, the best weights are restored.
 * @param deadShare the fraction of hidden units that are never active; 0 if unknown.
 */
export function advise(series: Series, stopReason: string | null, training: any = {}, deadShare = 0): Advice[] {
  // A cancelled or failed run does not show whether its configuration works.
  if (stopReason === 'user' || stopReason === 'error' || stopReason === 'interrupted') return [];
  const train = numbers(series.train_loss);
  const validation = numbers(series.validation_loss);
  const advice: Advice[] = [];
  const first = train[0];
  const last = train.at(-1);
  const best = Math.min(...validation);
  // Pretrained weights start with almost no training loss. An increase may then mean less overfitting.
  const validationImproved = validation.length > 0 && validation.at(-1)! <= validation[0]!;
  const trainingRose = first !== undefined && last !== undefined && last > 4 * first && last > CONVERGED_LOSS;
  if (stopReason === 'diverged' || (trainingRose && !validationImproved)) {
    advice.push({
      id: 'diverging',
      text: 'The loss diverged: the learning rate is too high for this network.',
      label: 'Use a tenth of the learning rate and clip gradients',
      change: (training) => ({ ...scaleLearningRate(0.1)(training), gradient_clip_norm: 1 }),
    });
    return advice;
  }
  if (train.length < MIN_EPOCHS || first === undefined || last === undefined) return advice;
  const recent = train.slice(-Math.max(MIN_EPOCHS, Math.floor(train.length / 5)));
  if (oscillation(recent) > 0.35 && last > Math.max(0.02 * first, CONVERGED_LOSS)) {
    advice.push({
      id: 'rate-too-high',
      text: 'The loss oscillates instead of converging: the learning rate is too high.',
      label: 'Use a third of the learning rate',
      change: scaleLearningRate(1 / 3),
    });
  }
  if (deadShare > 0.4) {
    advice.push({
      id: 'dead-units',
      text: `${Math.round(deadShare * 100)} % of the hidden units are never active. A lower learning rate keeps more of them active.`,
      label: 'Use half the learning rate',
      change: scaleLearningRate(0.5),
    });
  }
  if (last < CONVERGED_LOSS && !(validation.at(-1)! > CONVERGED_LOSS)) return advice;
  if (last > 0.97 * first && !validationImproved) {
    advice.push({
      id: 'flat',
      text: 'The loss has hardly changed. The learning rate may be too low, or the inputs may have very different scales.',
      label: 'Use three times the learning rate and standardize inputs',
      change: (training) => ({ ...scaleLearningRate(3)(training), standardize: true }),
    });
    return advice;
  }
  const bestIndex = validation.indexOf(best);
  const stopsEarly = training.early_stopping != null;
  if (!stopsEarly && validation.length >= MIN_EPOCHS && bestIndex < 0.7 * validation.length && mean(validation.slice(-5)) > 1.1 * best) {
    advice.push({
      id: 'overfitting',
      text: `The validation loss was lowest at epoch ${series.epoch[bestIndex] ?? bestIndex + 1} and has increased since: the network overfits.`,
      label: 'Use early stopping and L2',
      change: (training) => ({
        ...training,
        early_stopping: { patience: Math.max(10, Math.round(training.epochs / 10)), min_delta: 0 },
        l2: Math.max(training.l2 ?? 0, 0.001),
      }),
    });
  }
  // Suggest more epochs only if the validation loss still decreases, or the training loss without one.
  const monitored = validation.length >= MIN_EPOCHS ? validation : train;
  const previous = mean(monitored.slice(Math.floor(0.8 * monitored.length), Math.floor(0.9 * monitored.length)));
  const latest = mean(monitored.slice(Math.floor(0.9 * monitored.length)));
  const constant = numbers(series.learning_rate).every((value, _, all) => value === all[0]);
  if (stopReason === 'epochs_done' && constant && latest < 0.95 * previous && last > 1e-3) {
    advice.push({
      id: 'unfinished',
      text: 'The loss was still decreasing at the last epoch.',
      label: 'Use twice as many epochs',
      change: (training) => ({ ...training, epochs: training.epochs * 2 }),
    });
  }
  return advice;
}
