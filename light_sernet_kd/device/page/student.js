// The exported file in LiteRT's web runtime, and the windows that it is shown.

import { Tensor, loadAndCompile, loadLiteRt } from "@litertjs/core";

// Whole addresses: the page may lie in any folder of a web server.
const RUNTIME = new URL("litert/wasm/", document.baseURI).href;
let runtime = null;

/**
 * A student of students.json, ready to classify; `close` frees its memory. Where its `speaker` is a `Speaker`,
 * answers have the clip's `embedding` too, and are for that speaker if anything is known of one.
 */
export async function openStudent(facts) {
  runtime ??= loadLiteRt(RUNTIME);
  try {
    await runtime;
  } catch (error) {
    runtime = null; // the next choice tries again
    throw error;
  }
  const answer = await fetch(facts.file);
  if (!answer.ok) throw new Error(`${facts.file} cannot be loaded (${answer.status})`);
  const model = await loadAndCompile(new Uint8Array(await answer.arrayBuffer()), { accelerator: "wasm" });

  /** What a signature gives for arrays by name, `[values, shape]` each; without a signature, the first graph's. */
  async function run(arrays, ...signature) {
    const tensors = {};
    let outputs = {};
    try {
      for (const [name, [values, shape]] of Object.entries(arrays)) tensors[name] = new Tensor(values, shape);
      outputs = await model.run(...signature, tensors);
      return Object.fromEntries(
        Object.entries(outputs).map(([name, output]) => [name, Array.from(output.toTypedArray())]),
      );
    } finally {
      for (const each of [...Object.values(tensors), ...Object.values(outputs)]) each.delete();
    }
  }

  /** Probabilities of one clip, cut or padded as in training, and the milliseconds it took. */
  async function classify(clip) {
    const started = performance.now();
    const audio = { audio: [fit(clip, facts.samples, facts.padding), [1, facts.samples]] };
    const { speaker } = opened;
    let found = {};
    if (speaker) {
      const known = {
        speaker: [Float32Array.from(speaker.mean), [1, speaker.width]],
        clips: [Float32Array.of(speaker.clips), [1, 1]],
      };
      found = await run({ ...audio, ...known }, "enrolled");
    }
    // The first graph answers for whoever is not known.
    if (!speaker?.clips) found = { ...found, ...(await run(audio)) };
    // The file has the ends of the scale as -1 and 1.
    const [low, high] = facts.dimensions?.range ?? [];
    const dimensions = found.dimensions?.map((value) => low + ((high - low) * (value + 1)) / 2);
    const { probabilities = [] } = found; // a file of dimensions alone gives none
    return { ...found, probabilities, ...(dimensions && { dimensions }), milliseconds: performance.now() - started };
  }

  const opened = { ...facts, speaker: null, classify, close: () => model.delete() };
  await classify(new Float32Array(facts.samples)); // the first run sets up memory and takes longer
  return opened;
}

/** Exactly `length` samples: the middle of a long clip; zeros at both ends of a short one, or at its right. */
export function fit(clip, length, padding) {
  const surplus = clip.length - length;
  if (surplus >= 0) {
    const start = Math.floor(surplus / 2);
    return clip.slice(start, start + length);
  }
  const padded = new Float32Array(length);
  padded.set(clip, padding === "both" ? Math.floor(-surplus / 2) : 0);
  return padded;
}

/** First and one past last sample of each window: whole ones every `hop`, and one more for an end unheard. */
export function windows(total, length, hop) {
  const found = [];
  let start = 0;
  for (; start + length <= total; start += hop) found.push([start, start + length]);
  const heard = found.length ? found.at(-1)[1] : 0;
  if (heard < total && start < total) found.push([start, total]);
  return found;
}

/** Root mean square about the mean, in dB of full scale. */
export function level(sound) {
  let sum = 0;
  for (const value of sound) sum += value;
  const mean = sum / sound.length;
  let squares = 0;
  for (const value of sound) squares += (value - mean) ** 2;
  return 10 * Math.log10(Math.max(squares / sound.length, 1e-12));
}

/** The smallest difference of neighbours that is not 0; 0 without any. */
function smallestStep(sound) {
  let smallest = Infinity;
  for (let i = 1; i < sound.length; i++) {
    const step = Math.abs(sound[i] - sound[i - 1]);
    if (step > 0 && step < smallest) smallest = step;
  }
  return Number.isFinite(smallest) ? smallest : 0;
}

/** By how many dB the level below 1 kHz rises and falls, as the runner's `level_range_db`, which says why. */
export function levelRangeDb(sound, student) {
  const { rate, block_seconds, frame_blocks, hop_blocks, fewest_frames } = student.level_range;
  const width = Math.max(1, Math.round(student.sample_rate / rate));
  const length = Math.max(1, Math.round((block_seconds * student.sample_rate) / width));
  const count = Math.floor((Math.floor(sound.length / width) - 1) / length);
  const fewest = (fewest_frames - 1) * hop_blocks + frame_blocks;
  if (count < fewest) return Infinity;
  const mean = (at) => {
    let sum = 0;
    for (let i = at * width; i < (at + 1) * width; i++) sum += sound[i];
    return sum / width;
  };
  let powers = new Float64Array(count);
  let before = mean(0);
  for (let i = 0; i < count * length; i++) {
    const now = mean(i + 1);
    powers[Math.floor(i / length)] += (now - before) ** 2 / length;
    before = now;
  }
  const heard = powers.filter((power) => power > 0);
  if (heard.length >= fewest) powers = heard;
  const floor = Math.max((2 * smallestStep(sound) ** 2) / width, 1e-30);
  const levels = [];
  for (let at = 0; at + frame_blocks <= powers.length; at += hop_blocks) {
    const frame = powers.slice(at, at + frame_blocks).sort();
    const median = (frame[Math.floor((frame_blocks - 1) / 2)] + frame[Math.floor(frame_blocks / 2)]) / 2;
    levels.push(10 * Math.log10(Math.max(median, floor)));
  }
  levels.sort((a, b) => a - b);
  const last = levels.length - 1;
  return levels[Math.floor(0.95 * last)] - levels[Math.floor(0.1 * last)];
}

export const SILENT = "silent";
export const STEADY = "no speech";
export const NOT_SURE = "not sure";
export const TOO_SHORT = "too short";
/** What a window is of a student without classes, where there is no doubt. */
export const SPEECH = "speech";
/** Windows with these reasons hold no speech. */
export const WITHOUT_SPEECH = [SILENT, STEADY, TOO_SHORT];

/** The place of the largest; -1 of none. */
const likeliest = (shares) => shares.indexOf(Math.max(...shares));

/** Why a stretch of sound is nothing to classify, as `predict` calls it; empty where there is speech. */
function unheard(student, sound, silenceDbfs) {
  if (level(sound) < silenceDbfs) return SILENT;
  return levelRangeDb(sound, student) < student.steady_db ? STEADY : "";
}

/**
 * `found` with what is shown of it: the class number `shown`, or, where `why` says why, `label` null; and as
 * `values` its dimensions, undefined where the file gives none. Of dimensions alone, `label` is `SPEECH`.
 */
function judged(student, found, shares, shown, why, values = found.dimensions) {
  if (!why && shares.length && Math.max(...shares) < student.unsure_below) why = NOT_SURE;
  return { ...found, shares, shown, why, label: why ? null : (student.labels[shown] ?? SPEECH), values };
}

/** The mean of some rows' numbers, of equal length. */
const meanOf = (lists) => lists[0]?.map((_, k) => lists.reduce((sum, each) => sum + each[k], 0) / lists.length);

const tooShort = (student, sound) => sound.length < student.shortest_seconds * student.sample_rate;

/**
 * The answer for a recording that fits into one window, as `light-sernet-kd predict` gives it. `time_shares` has
 * each label's share of the time, `unsure_shares` that of each reason for doubt.
 */
export async function answer(student, sound) {
  const found = await student.classify(sound);
  // Padding is silence that was not recorded.
  const why = tooShort(student, sound) ? TOO_SHORT : unheard(student, sound, student.silence_dbfs);
  const judgement = judged(student, found, found.probabilities, likeliest(found.probabilities), why);
  const row = { ...judgement, start: 0, end: sound.length / student.sample_rate };
  return { ...judgement, ...timeShares(student, [row]) };
}

/** Each label's and each reason's share of the time; a window speaks for the time about its middle. */
function timeShares(student, rows) {
  const middle = (row) => (row.start + row.end) / 2;
  const time_shares = Object.fromEntries(student.labels.map((label) => [label, 0]));
  const unsure_shares = {};
  const whole = rows.at(-1).end;
  let begun = 0;
  rows.forEach((row, k) => {
    const ended = k + 1 < rows.length ? (middle(row) + middle(rows[k + 1])) / 2 : row.end;
    const [shares, name] = row.why ? [unsure_shares, row.why] : [time_shares, row.label];
    shares[name] = (shares[name] ?? 0) + (ended - begun) / whole;
    begun = ended;
  });
  return { time_shares, unsure_shares };
}

/**
 * The answer for a recording of several windows, as `light-sernet-kd predict` gives it: the mean of those that
 * hold speech.
 */
export function summary(student, rows) {
  const times = timeShares(student, rows);
  const speech = rows.filter((row) => !WITHOUT_SPEECH.includes(row.why));
  const heard = speech.length ? speech : rows;
  const mean = meanOf(heard.map((row) => row.probabilities));
  const dimensions = student.dimensions ? meanOf(heard.map((row) => row.dimensions)) : undefined;
  const longest = Object.entries(times.unsure_shares).sort((a, b) => b[1] - a[1])[0];
  const why = speech.length ? "" : longest[0];
  return { ...judged(student, { probabilities: mean, dimensions }, mean, likeliest(mean), why), ...times };
}

/**
 * Answers for windows that follow each other, as the runner's `Stream` gives them: `shares` and `values` are
 * smoothed, and another label takes over when it leads by a margin, or has led for some windows on end. Silence, and what is
 * no speech, is left out of that, and what follows it begins anew.
 */
export class Timeline {
  constructor(student) {
    this.student = student;
    this.newShare = -Math.expm1(-student.hop_seconds / student.smoothing_seconds);
    this.silent = false;
    this.#beginAnew();
  }

  #beginAnew() {
    this.shares = this.values = null;
    this.shown = this.challenger = -1;
    this.led = 0;
  }

  /** @param sound at most the student's `samples`. */
  async next(sound) {
    const { student } = this;
    const found = await student.classify(sound);
    const { probabilities } = found;
    const why = unheard(student, sound, student.silence_dbfs + (this.silent ? student.silence_hysteresis_db : 0));
    this.silent = why === SILENT;
    if (why) {
      this.#beginAnew();
      return judged(student, found, probabilities, likeliest(probabilities), why);
    }
    const smoothed = (before, now) => before?.map((value, k) => value + this.newShare * (now[k] - value)) ?? now;
    this.shares = smoothed(this.shares, probabilities);
    this.values = smoothed(this.values, found.dimensions);
    this.#choose();
    return judged(student, found, this.shares, this.shown, "", this.values);
  }

  #choose() {
    const { shares, student } = this;
    const best = likeliest(shares);
    if (this.shown < 0 || best === this.shown) {
      this.shown = best;
      this.led = 0;
      return;
    }
    this.led = best === this.challenger ? this.led + 1 : 1;
    this.challenger = best;
    if (this.led >= student.patience || shares[best] - shares[this.shown] >= student.margin) {
      this.shown = best;
      this.led = 0;
    }
  }
}
