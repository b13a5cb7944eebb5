// Recordings as one channel at the student's rate: decoded, recorded, resampled, and as a WAV to listen to.

import { leastSeconds, namedRate } from "./headers.js";
import { level } from "./student.js";

const ANY_RATE = 48000;
const ZERO_CROSSINGS = 64;
const STEPS = 512; // of the filter's table, between two zero crossings
const CUTOFF = 0.955; // of half the lower rate: where the filter has fallen by half

let table = null;

/** A sinc under a Kaiser window of -100 dB, right of its middle; linear interpolation adds less than that. */
function filter() {
  if (table) return table;
  const bessel = (x) => {
    let sum = 1;
    for (let term = 1, k = 1; term > 1e-12 * sum; k++) sum += term *= (x / 2 / k) ** 2;
    return sum;
  };
  const beta = 10.06;
  table = new Float64Array(ZERO_CROSSINGS * STEPS + 2);
  for (let i = 0; i <= ZERO_CROSSINGS * STEPS; i++) {
    const at = i / STEPS;
    const sinc = i ? Math.sin(Math.PI * at * CUTOFF) / (Math.PI * at) : CUTOFF;
    table[i] = (sinc * bessel(beta * Math.sqrt(1 - (at / ZERO_CROSSINGS) ** 2))) / bessel(beta);
  }
  return table;
}

/** One channel at another rate, both in Hz; what the new rate cannot hold is filtered out. */
export function resample(sound, rate, target) {
  if (rate === target) return sound;
  const weights = filter();
  const scale = Math.min(1, target / rate); // zero crossings per sample of `sound`
  const reach = ZERO_CROSSINGS / scale;
  const made = new Float32Array(Math.round((sound.length * target) / rate));
  for (let i = 0; i < made.length; i++) {
    const middle = (i * rate) / target;
    const first = Math.max(0, Math.ceil(middle - reach));
    const last = Math.min(sound.length - 1, Math.floor(middle + reach));
    let sum = 0;
    for (let k = first; k <= last; k++) {
      const at = Math.abs(k - middle) * scale * STEPS;
      const step = Math.floor(at);
      sum += sound[k] * (weights[step] + (at - step) * (weights[step + 1] - weights[step]));
    }
    made[i] = sum * scale;
  }
  return made;
}

/** Where a WAV file's format and samples begin, `{format, samples, size}` in bytes; null if it is none. */
function wavParts(view) {
  const name = (at) => String.fromCharCode(...new Uint8Array(view.buffer, at, 4));
  if (view.byteLength < 44 || name(0) !== "RIFF" || name(8) !== "WAVE") return null;
  let format = 0;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (name(at) === "fmt " && at + 24 <= view.byteLength) format = at + 8;
    if (name(at) === "data") {
      return format ? { format, samples: at + 8, size: Math.min(size, view.byteLength - at - 8) } : null;
    }
    at += 8 + size + (size % 2);
  }
  return null;
}

/**
 * A WAV's samples as the training and `predict` read them, `{length, rate, mono()}`; null for a kind that is not here.
 * Browsers disagree on full scale: some divide 16 bits by 32767, which int8 files hear.
 */
function readWav(view, { format, samples, size }) {
  const channels = view.getUint16(format + 2, true);
  const rate = view.getUint32(format + 4, true);
  const bits = view.getUint16(format + 14, true);
  let kind = view.getUint16(format, true);
  if (kind === 0xfffe && format + 26 <= samples) kind = view.getUint16(format + 24, true); // extensible
  const readers = {
    "1 8": (at) => (view.getUint8(at) - 128) / 2 ** 7,
    "1 16": (at) => view.getInt16(at, true) / 2 ** 15,
    "1 24": (at) => (view.getInt8(at + 2) * 2 ** 16 + view.getUint16(at, true)) / 2 ** 23,
    "1 32": (at) => view.getInt32(at, true) / 2 ** 31,
    "3 32": (at) => view.getFloat32(at, true),
    "3 64": (at) => view.getFloat64(at, true),
  };
  const read = readers[`${kind} ${bits}`];
  if (!read || !channels || !rate) return null;
  const step = bits / 8;
  const length = Math.floor(size / (step * channels));
  const mono = () => {
    const mixed = new Float32Array(length);
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (let channel = 0; channel < channels; channel++) sum += read(samples + step * (i * channels + channel));
      mixed[i] = sum / channels;
    }
    return mixed;
  };
  return { length, rate, mono };
}

/** Any other file's samples, as the browser decodes it: `{length, rate, mono()}`. */
async function readOther(content, view, parts) {
  let rate = ANY_RATE;
  try {
    rate = parts ? view.getUint32(parts.format + 4, true) : (namedRate(view) ?? ANY_RATE);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a file too short for its header
  }
  if (!(rate >= 8000 && rate <= 96000)) rate = ANY_RATE; // what every browser takes
  const decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
  const mono = () => {
    const mixed = new Float32Array(decoded.length);
    for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
      const samples = decoded.getChannelData(channel);
      for (let i = 0; i < mixed.length; i++) mixed[i] += samples[i] / decoded.numberOfChannels;
    }
    return mixed;
  };
  return { length: decoded.length, rate, mono };
}

/**
 * A file's `seconds`, its `rate` in Hz, and `samples(target)`: one channel at `target` Hz, which is the work that
 * takes time.
 * Both throw an Error with a sentence for the user. A file that says itself that it is longer than `longest` seconds
 * is not decoded, and has its `seconds` alone.
 */
export async function decode(content, longest) {
  const view = new DataView(content);
  const parts = wavParts(view);
  let found = parts && readWav(view, parts);
  if (!found) {
    const stated = parts ? parts.size / (view.getUint32(parts.format + 8, true) || Infinity) : leastSeconds(view);
    if (stated > longest) return { seconds: stated };
    try {
      found = await readOther(content, view, parts);
    } catch {
      throw new Error("this browser finds no sound in it: take a WAV, FLAC, MP3, Ogg or M4A file");
    }
  }
  const samples = (target) => {
    const mono = found.mono();
    if (!mono.every(Number.isFinite)) throw new Error("it holds samples that are not finite numbers");
    const sound = resample(mono, found.rate, target);
    if (!sound.length) throw new Error("it holds no samples");
    return sound;
  };
  return { seconds: found.length / found.rate, rate: found.rate, samples };
}

/**
 * Starts the microphone; `latest(seconds, target)` and `stop(target, longest)` give what it has heard, `levels()`
 * the level and the highest sample of each block of some 40 ms, in dB of full scale.
 */
export async function record() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Error("this browser gives pages no microphone");
  let stream;
  try {
    // What makes calls pleasant takes away what tells emotions: level, breath, voice quality.
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
  } catch (error) {
    const reasons = {
      NotAllowedError: "the browser was not allowed to use the microphone: allow it beside the address",
      NotFoundError: "there is no microphone: connect one, or choose a file",
      NotReadableError: "another program holds the microphone: end it there",
    };
    throw new Error(reasons[error.name] ?? `the microphone does not start (${error.message})`);
  }
  // At the device's own rate: not every browser connects a microphone to another.
  const context = new AudioContext();
  const blocks = [];
  const levels = [];
  let samples = 0;
  const end = async () => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule("recorder.js");
    await context.resume();
    const recorder = new AudioWorkletNode(context, "recorder");
    recorder.port.onmessage = ({ data }) => {
      blocks.push(data);
      const highest = data.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
      levels.push({ level: level(data), peak: 20 * Math.log10(highest) });
      samples += data.length;
    };
    // It gives silence out; only what leads to the loudspeaker is run by every browser.
    context.createMediaStreamSource(stream).connect(recorder).connect(context.destination);
  } catch (error) {
    await end();
    throw new Error(`the microphone cannot be recorded (${error.message})`);
  }
  const joined = (from) => {
    const sound = new Float32Array(samples - from);
    let at = samples;
    for (let i = blocks.length - 1; i >= 0 && at > from; i--) {
      at -= blocks[i].length;
      if (at >= from) sound.set(blocks[i], at - from);
      else sound.set(blocks[i].subarray(from - at));
    }
    return sound;
  };
  return {
    ended: new Promise((gone) => stream.getTracks()[0].addEventListener("ended", gone)),
    seconds: () => samples / context.sampleRate,
    levels: () => levels,
    latest: (seconds, target) =>
      resample(joined(Math.max(0, samples - Math.round(seconds * context.sampleRate))), context.sampleRate, target),
    /** The first `longest` seconds: blocks come on until the end. */
    stop: async (target, longest) => {
      const rate = context.sampleRate;
      await end();
      return resample(joined(0).subarray(0, Math.floor(longest * rate)), rate, target);
    },
  };
}

/** A WAV of 32-bit floats, which holds the samples as they are. */
export function wav(sound, rate) {
  const content = new DataView(new ArrayBuffer(44 + 4 * sound.length));
  const text = (at, letters) => [...letters].forEach((each, i) => content.setUint8(at + i, each.charCodeAt(0)));
  text(0, "RIFF");
  content.setUint32(4, 36 + 4 * sound.length, true);
  text(8, "WAVEfmt ");
  content.setUint32(16, 16, true);
  content.setUint16(20, 3, true); // floating point
  content.setUint16(22, 1, true);
  content.setUint32(24, rate, true);
  content.setUint32(28, 4 * rate, true);
  content.setUint16(32, 4, true);
  content.setUint16(34, 32, true);
  text(36, "data");
  content.setUint32(40, 4 * sound.length, true);
  for (let i = 0; i < sound.length; i++) content.setFloat32(44 + 4 * i, sound[i], true);
  return new Blob([content], { type: "audio/wav" });
}
