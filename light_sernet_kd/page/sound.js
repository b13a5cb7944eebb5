// Recordings as one channel at the student's rate: decoded, recorded, resampled, and as a WAV to listen to.

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

/** The rate that a WAV or FLAC file names, in Hz; 48000 for other kinds, which the browser converts. */
function rateOf(content) {
  const view = new DataView(content);
  const name = (at) => String.fromCharCode(...new Uint8Array(content, at, 4));
  if (content.byteLength > 44 && name(0) === "RIFF" && name(8) === "WAVE") {
    for (let at = 12; at + 16 <= content.byteLength; ) {
      if (name(at) === "fmt ") return view.getUint32(at + 12, true);
      const size = view.getUint32(at + 4, true);
      at += 8 + size + (size % 2);
    }
  }
  if (content.byteLength > 42 && name(0) === "fLaC") return view.getUint32(18) >>> 12;
  return ANY_RATE;
}

/** A file's bytes as one channel at `target` Hz. Throws an Error with a sentence for the user. */
export async function decode(content, target) {
  let decoded;
  try {
    let rate = rateOf(content);
    if (!(rate >= 8000 && rate <= 96000)) rate = ANY_RATE; // what every browser takes
    decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(content);
  } catch {
    throw new Error("this browser finds no sound in it: take a WAV, FLAC, MP3, Ogg or M4A file");
  }
  if (!decoded.length) throw new Error("it holds no samples");
  const mono = new Float32Array(decoded.length);
  for (let channel = 0; channel < decoded.numberOfChannels; channel++) {
    const samples = decoded.getChannelData(channel);
    for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / decoded.numberOfChannels;
  }
  if (!mono.every(Number.isFinite)) throw new Error("it holds samples that are not finite numbers");
  return resample(mono, decoded.sampleRate, target);
}

/** Starts the microphone; `latest(seconds, target)` and `stop(target)` give what it has heard. */
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
    latest: (seconds, target) =>
      resample(joined(Math.max(0, samples - Math.round(seconds * context.sampleRate))), context.sampleRate, target),
    stop: async (target) => {
      const rate = context.sampleRate;
      await end();
      return resample(joined(0), rate, target);
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
