import { describe, expect, it } from 'vitest';
import { advise } from './advice';
import { append, empty, type Series } from './series';

const EPOCHS = 60;

function run(train: (t: number) => number, validation?: (t: number) => number): Series {
  const series = empty();
  append(
    series,
    Array.from({ length: EPOCHS }, (_, at) => ({
      id: String(at),
      type: 'epoch',
      data: {
        epoch: at + 1,
        train_loss: train(at / EPOCHS),
        validation_loss: validation?.(at / EPOCHS) ?? null,
        learning_rate: 0.1,
      },
    })),
  );
  return series;
}

const ids = (series: Series, reason: string | null = null, dead = 0, training = {}): string[] =>
  advise(series, reason, training, dead).map((advice) => advice.id);

describe('advise', () => {
  it('says nothing of a good run', () => {
    expect(ids(run((t) => Math.exp(-9 * t), (t) => 0.1 + Math.exp(-9 * t)), 'epochs_done')).toEqual([]);
  });

  it('sees a loss that does not move', () => {
    expect(ids(run(() => 2.3))).toEqual(['flat']);
  });

  it('sees a loss that runs away', () => {
    expect(ids(run((t) => 1 + 20 * t))).toEqual(['diverging']);
    expect(ids(run(() => 1), 'diverged')).toEqual(['diverging']);
    expect(ids(run((t) => 1 + 20 * t, (t) => 2 + t))).toEqual(['diverging']);
  });

  it('sees steps that are too long', () => {
    const zigzag = (t: number): number => 1 - 0.5 * t + (Math.round(t * EPOCHS) % 2 ? 0.4 : 0);
    expect(ids(run(zigzag))).toContain('rate-too-high');
  });

  it('sees what is learned by heart', () => {
    const series = run((t) => Math.exp(-9 * t), (t) => 0.4 + 2 * (t - 0.3) ** 2);
    expect(ids(series)).toEqual(['overfitting']);
    expect(ids(series, 'early_stopped', 0, { early_stopping: { patience: 10 } })).toEqual([]);
  });

  it('sees epochs that ran out too soon', () => {
    expect(ids(run((t) => Math.exp(-3 * t)), 'epochs_done')).toEqual(['unfinished']);
    expect(ids(run((t) => Math.exp(-3 * t)), 'user')).toEqual([]);
    expect(ids(run((t) => Math.exp(-3 * t), () => 0.3), 'epochs_done')).toEqual([]);
  });

  it('sees units that never fire', () => {
    expect(ids(run((t) => Math.exp(-9 * t)), 'epochs_done', 0.6)).toEqual(['dead-units']);
  });

  it('takes a loss that grows while validation gains for less learned by heart', () => {
    expect(ids(run((t) => 0.002 + 0.02 * t, (t) => 0.3 - 0.15 * t), 'early_stopped')).toEqual([]);
  });

  it('says nothing of a run that was broken off', () => {
    expect(ids(run(() => 2.3), 'user')).toEqual([]);
    expect(ids(run(() => 2.3), 'error')).toEqual([]);
  });

  it('changes only what it names', () => {
    const [advice] = advise(run(() => 2.3), null);
    const before = { epochs: 5, optimizer: { type: 'sgd', learning_rate: 0.1 }, seed: 3 };
    expect(advice!.change(before)).toEqual({
      epochs: 5,
      optimizer: { type: 'sgd', learning_rate: 0.3 },
      seed: 3,
      standardize: true,
    });
  });

  it('leaves alone what is learned already', () => {
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
