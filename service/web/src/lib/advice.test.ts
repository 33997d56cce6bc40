import { describe, expect, it } from 'vitest';
import { advise } from './advice';
import { append, empty, type Series } from './series';

const EPOCHS = 60;

function run(train: (t: number) => number, validation?: (t: number) => number): Series {
  const series = empty();
  append(
    series,
    Array.from({ length: EPOCHS }, (_, index) => ({
      id: String(index),
      type: 'epoch',
      data: {
        epoch: index + 1,
        train_loss: train(index / EPOCHS),
        validation_loss: validation?.(index / EPOCHS) ?? null,
        learning_rate: 0.1,
      },
    })),
  );
  return series;
}

const ids = (series: Series, reason: string | null = null, dead = 0, training = {}): string[] =>
  advise(series, reason, training, dead).map((advice) => advice.id);

describe('advise', () => {
  it('returns nothing for a good run', () => {
    expect(ids(run((t) => Math.exp(-9 * t), (t) => 0.1 + Math.exp(-9 * t)), 'epochs_done')).toEqual([]);
  });

  it('detects a loss that does not change', () => {
    expect(ids(run(() => 2.3))).toEqual(['flat']);
  });

  it('detects a loss that diverges', () => {
    expect(ids(run((t) => 1 + 20 * t))).toEqual(['diverging']);
    expect(ids(run(() => 1), 'diverged')).toEqual(['diverging']);
    expect(ids(run((t) => 1 + 20 * t, (t) => 2 + t))).toEqual(['diverging']);
  });

  it('detects a learning rate that is too high', () => {
    const zigzag = (t: number): number => 1 - 0.5 * t + (Math.round(t * EPOCHS) % 2 ? 0.4 : 0);
    expect(ids(run(zigzag))).toContain('rate-too-high');
  });

  it('detects overfitting', () => {
    const series = run((t) => Math.exp(-9 * t), (t) => 0.4 + 2 * (t - 0.3) ** 2);
    expect(ids(series)).toEqual(['overfitting']);
    expect(ids(series, 'early_stopped', 0, { early_stopping: { patience: 10 } })).toEqual([]);
  });

  it('detects a run with too few epochs', () => {
    expect(ids(run((t) => Math.exp(-3 * t)), 'epochs_done')).toEqual(['unfinished']);
    expect(ids(run((t) => Math.exp(-3 * t)), 'user')).toEqual([]);
    expect(ids(run((t) => Math.exp(-3 * t), () => 0.3), 'epochs_done')).toEqual([]);
  });

  it('detects hidden units that are never active', () => {
    expect(ids(run((t) => Math.exp(-9 * t)), 'epochs_done', 0.6)).toEqual(['dead-units']);
  });

  it('accepts a training loss that grows while the validation loss decreases', () => {
    expect(ids(run((t) => 0.002 + 0.02 * t, (t) => 0.3 - 0.15 * t), 'early_stopped')).toEqual([]);
  });

  it('returns nothing for a run that was stopped or failed', () => {
    expect(ids(run(() => 2.3), 'user')).toEqual([]);
    expect(ids(run(() => 2.3), 'error')).toEqual([]);
  });

  it('changes only the suggested values', () => {
    const [advice] = advise(run(() => 2.3), null);
    const before = { epochs: 5, optimizer: { type: 'sgd', learning_rate: 0.1 }, seed: 3 };
    expect(advice!.change(before)).toEqual({
      epochs: 5,
      optimizer: { type: 'sgd', learning_rate: 0.3 },
      seed: 3,
      standardize: true,
    });
  });

  it('returns nothing for a loss that is already low', () => {
    expect(ids(run(() => 1e-6))).toEqual([]);
    expect(ids(run((t) => 1e-9 + 6e-8 * t))).toEqual([]);
    expect(ids(run(() => 1e-6, (t) => 1e-8 + 1e-7 * t))).toEqual([]);
  });

  it('waits for enough epochs', () => {
    const series = empty();
    append(series, [{ id: '1', type: 'epoch', data: { epoch: 1, train_loss: 1 } }]);
    expect(advise(series, null)).toEqual([]);
  });
});
