// Waveform, mel spectrogram and timeline of one recording, on one time axis.

import { place as onScale } from "./plane.js";
import { percent } from "./words.js";

const FRAME = 400; // 25 ms at 16 kHz
const HOP = 160;
const BINS = 512;
const BANDS = 64;
const LOWEST_HZ = 50;
const RANGE_DB = 70;
const MOST_FRAMES = 1200; // more than a screen has columns
const END_PX = 10;

const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

/** Pixels left of the time axis, for names. */
const gutter = (width) => (width < 480 ? 86 : 100);

/** A canvas at the screen's resolution, empty, with the colours of the present theme. */
export function prepared(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const draw = canvas.getContext("2d");
  draw.scale(scale, scale);
  const style = getComputedStyle(canvas);
  draw.font = `12px ${style.fontFamily}`;
  draw.textBaseline = "middle";
  const left = gutter(width);
  return {
    draw,
    width,
    height,
    left,
    span: Math.max(1, width - left - END_PX),
    colour: (name) => style.getPropertyValue(`--${name}`).trim(),
    dark: style.getPropertyValue("--scheme").trim() === "dark",
  };
}

/** The text, shortened to a width in pixels. */
export function shortened(draw, text, most) {
  if (draw.measureText(text).width <= most) return text;
  let letters = [...text];
  while (letters.length > 1 && draw.measureText(`${letters.join("")}…`).width > most) letters = letters.slice(0, -1);
  return `${letters.join("")}…`;
}

/** A class's colours in the present theme: of what is filled with it, and of words on that. */
export function emotion(colours, { dark }) {
  const { light, dark: onDark, on_light, on_dark } = colours;
  return dark ? { fill: onDark, on: on_dark } : { fill: light, on: on_light };
}

function name(view, text, y, { strong = false } = {}) {
  const { draw, left, colour } = view;
  draw.fillStyle = colour(strong ? "text" : "soft");
  draw.font = draw.font.replace(/^(bold )?/, strong ? "bold " : "");
  draw.textAlign = "right";
  draw.fillText(shortened(draw, text, left - 10), left - 8, y);
  draw.font = draw.font.replace(/^bold /, "");
}

/** Where on the page a moment lies: its share of the canvas's width. */
export function place(canvas, share) {
  const { width } = canvas.getBoundingClientRect();
  return (gutter(width) + share * (width - gutter(width) - END_PX)) / width;
}

export function waveform(canvas, sound) {
  const view = prepared(canvas);
  const { draw, height, left, span, colour } = view;
  const middle = height / 2;
  let peak = 0;
  for (const value of sound) peak = Math.max(peak, Math.abs(value));
  const reach = (middle - 6) / Math.max(peak, 0.01);
  draw.fillStyle = colour("line");
  draw.fillRect(left, middle - 0.5, span, 1);
  const columns = Math.floor(span);
  for (let column = 0; column < columns; column++) {
    const from = Math.floor((column * sound.length) / columns);
    const to = Math.max(from + 1, Math.floor(((column + 1) * sound.length) / columns));
    let low = Infinity;
    let high = -Infinity;
    for (let i = from; i < to && i < sound.length; i++) {
      low = Math.min(low, sound[i]);
      high = Math.max(high, sound[i]);
    }
    if (low > high) continue;
    draw.fillStyle = colour("ink-graphic");
    draw.fillRect(left + column, middle - high * reach, 1, Math.max(1, (high - low) * reach));
  }
  name(view, "waveform", middle);
}

/** In-place transform of `BINS` complex numbers, radix 2. */
function fourier(real, imaginary) {
  for (let i = 1, j = 0; i < BINS; i++) {
    let bit = BINS >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [real[i], real[j]] = [real[j], real[i]];
      [imaginary[i], imaginary[j]] = [imaginary[j], imaginary[i]];
    }
  }
  for (let size = 2; size <= BINS; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const cosine = Math.cos((2 * Math.PI * k) / size);
      const sine = -Math.sin((2 * Math.PI * k) / size);
      for (let a = k; a < BINS; a += size) {
        const b = a + size / 2;
        const re = real[b] * cosine - imaginary[b] * sine;
        const im = real[b] * sine + imaginary[b] * cosine;
        real[b] = real[a] - re;
        imaginary[b] = imaginary[a] - im;
        real[a] += re;
        imaginary[a] += im;
      }
    }
  }
}

/** Triangles of height 1 on the mel scale: for each band, [first bin, weights]. */
function bands(rate) {
  const low = mel(LOWEST_HZ);
  const step = (mel(rate / 2) - low) / (BANDS + 1);
  return Array.from({ length: BANDS }, (_, band) => {
    const [from, middle, to] = [0, 1, 2].map((k) => (hertz(low + (band + k) * step) * BINS) / rate);
    const first = Math.ceil(from);
    const weights = [];
    for (let bin = first; bin <= to && bin <= BINS / 2; bin++) {
      weights.push(bin < middle ? (bin - from) / (middle - from) : (to - bin) / (to - middle));
    }
    // The lowest bands are narrower than a bin.
    return weights.some((each) => each > 0) ? [first, weights] : [Math.round(middle), [1]];
  });
}

/** Mel spectrogram in dB: `frames` rows of `BANDS` values, low frequencies first. */
export function melSpectrogram(sound, rate) {
  const hop = Math.max(HOP, Math.ceil(sound.length / MOST_FRAMES));
  const frames = Math.max(1, Math.ceil(sound.length / hop));
  const values = new Float32Array(frames * BANDS);
  const triangles = bands(rate);
  const real = new Float64Array(BINS);
  const imaginary = new Float64Array(BINS);
  for (let frame = 0; frame < frames; frame++) {
    const start = Math.round((frame + 0.5) * hop - FRAME / 2);
    real.fill(0);
    imaginary.fill(0);
    for (let i = 0; i < FRAME; i++) {
      const hann = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FRAME);
      real[i] = hann * (sound[start + i] ?? 0);
    }
    fourier(real, imaginary);
    triangles.forEach(([first, weights], band) => {
      let sum = 0;
      weights.forEach((weight, k) => (sum += weight * (real[first + k] ** 2 + imaginary[first + k] ** 2)));
      values[frame * BANDS + band] = 10 * Math.log10(Math.max(sum, 1e-10));
    });
  }
  return { values, frames };
}

/** Colours from quiet to loud, as red, green, blue. */
const RAMPS = {
  light: [[250, 250, 247], [196, 226, 219], [94, 169, 163], [22, 99, 112], [10, 34, 64]],
  dark: [[17, 22, 26], [20, 58, 74], [31, 118, 122], [122, 190, 140], [246, 240, 170]],
};

function shade(ramp, share) {
  const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const k = Math.min(Math.floor(at), ramp.length - 2);
  return ramp[k].map((from, channel) => from + (at - k) * (ramp[k + 1][channel] - from));
}

export function spectrogram(canvas, { values, frames }, rate) {
  const view = prepared(canvas);
  const { draw, height, left, span, colour } = view;
  const ramp = RAMPS[colour("scheme")] ?? RAMPS.light;
  let loudest = -Infinity;
  for (const value of values) loudest = Math.max(loudest, value);
  const image = new ImageData(frames, BANDS);
  for (let frame = 0; frame < frames; frame++) {
    for (let band = 0; band < BANDS; band++) {
      const share = 1 + (values[frame * BANDS + band] - loudest) / RANGE_DB;
      const at = 4 * ((BANDS - 1 - band) * frames + frame);
      image.data.set([...shade(ramp, share), 255], at);
    }
  }
  const small = new OffscreenCanvas(frames, BANDS);
  small.getContext("2d").putImageData(image, 0, 0);
  draw.drawImage(small, left, 0, span, height);
  const low = mel(LOWEST_HZ);
  const y = (hz) => height * (1 - (mel(hz) - low) / (mel(rate / 2) - low));
  name(view, "frequency", 8);
  for (const [hz, text] of [[250, "250 Hz"], [1000, "1 kHz"], [4000, "4 kHz"]]) {
    name(view, text, y(hz));
    draw.fillStyle = colour("soft");
    draw.fillRect(left - 5, y(hz) - 0.5, 5, 1);
  }
}

/** A round step of seconds that leaves labels room. */
function tick(seconds, span) {
  const least = (seconds * 52) / span;
  return [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60].find((step) => step >= least) ?? 120;
}

const ANSWER_PX = 30;
const AXIS_PX = 24;
const CLASS_PX = 20;
const SCALE_PX = 72;

/** A row per class; without classes, a taller one per dimension. */
export const timelineHeight = ({ labels, dimensions }) =>
  ANSWER_PX + 6 + (labels.length ? CLASS_PX * labels.length : SCALE_PX * dimensions.names.length) + AXIS_PX;

/** Where the time of each window begins and ends, in pixels: windows overlap, and one speaks for its middle. */
function edgesOf(rows, x, seconds) {
  const middle = (row) => (row.start + row.end) / 2;
  // The last window may be shorter, and its middle nearer.
  const between = (k) => x((middle(rows[k - 1]) + middle(rows[k])) / 2);
  return (k) => [
    k ? between(k) : x(0),
    k + 1 < rows.length ? between(k + 1) : x(seconds),
  ];
}

/**
 * The windows' answers as a strip of boxes with names, as far as there is room; doubt is dashed.
 *
 * @param colours of each class, by its label; what is no class has none.
 */
export function strip(view, rows, colours, edges, { top, height }) {
  const { draw, colour } = view;
  for (let k = 0; k < rows.length; ) {
    let next = k + 1;
    while (next < rows.length && rows[next].label === rows[k].label) next++;
    const [from, to] = [edges(k)[0], edges(next - 1)[1]];
    const sure = rows[k].label !== null;
    const plain = { fill: colour(sure ? "track" : "surface"), on: colour(sure ? "text" : "soft") };
    const { fill, on } = sure && colours[rows[k].label] ? emotion(colours[rows[k].label], view) : plain;
    draw.beginPath();
    draw.roundRect(from + 1, top + 1, Math.max(2, to - from - 2), height - 2, Math.min(6, (to - from) / 3));
    draw.setLineDash(sure ? [] : [4, 3]);
    draw.strokeStyle = sure ? fill : colour("soft");
    draw.fillStyle = fill;
    draw.fill();
    draw.stroke();
    draw.setLineDash([]);
    const text = rows[k].label ?? "unsure";
    draw.textAlign = "center";
    draw.fillStyle = on;
    for (const short of [text, `${text.slice(0, 4)}.`, sure ? text[0] : "?"]) {
      if (draw.measureText(short).width > to - from - 8) continue;
      draw.fillText(short, (from + to) / 2, top + height / 2 + 0.5);
      break;
    }
    k = next;
  }
}

/** Seconds below the pictures. */
function axis(view, x, seconds) {
  const { draw, height, left, span, colour } = view;
  const step = tick(seconds, span);
  draw.textAlign = "center";
  for (let k = 0; k * step <= seconds + 1e-9; k++) {
    draw.fillStyle = colour("soft");
    draw.fillRect(x(k * step) - 0.5, height - AXIS_PX, 1, 5);
    const text = step < 1 ? (k * step).toFixed(1) : String(k * step);
    draw.fillText(k * step + step > seconds ? `${text} s` : text, Math.min(x(k * step), left + span - 6), height - 9);
  }
}

/**
 * A dimension over time: a bar per window of speech, from the scale's low end upwards.
 *
 * @param edges begin and end of each window, in pixels.
 */
function scale(view, rows, student, k, edges, { top, height }) {
  const { draw, left, span, colour } = view;
  const dimension = student.dimensions.names[k];
  const room = height - 10;
  const [low, high] = student.dimensions.ends[dimension];
  draw.fillStyle = colour("track");
  draw.fillRect(left, top, span, room);
  rows.forEach((row, number) => {
    if (row.label === null) return;
    const [from, to] = edges(number);
    const tall = Math.max(2, onScale(student, row.values[k]) * room);
    draw.fillStyle = colour("accent");
    draw.fillRect(from, top + room - tall, Math.max(1, to - from - (to - from > 6 ? 1 : 0)), tall);
  });
  name(view, dimension, top + room / 2, { strong: true });
  name(view, high, top + 7);
  name(view, low, top + room - 7);
}

/**
 * Per window a column at its middle: how full the colour is says how likely, a dot marks the most likely. Above
 * it, what the windows say, in words. Without classes, a bar per window and dimension.
 *
 * @param rows `{start, end, shares, label}` per window, in seconds.
 */
export function timeline(canvas, rows, student, seconds) {
  const view = prepared(canvas);
  const { draw, height, left, span, colour } = view;
  const { colours, labels } = student;
  const x = (second) => left + (Math.min(Math.max(second, 0), seconds) / seconds) * span;
  const edges = edgesOf(rows, x, seconds);
  const top = ANSWER_PX + 6;
  const cell = (height - top - AXIS_PX) / labels.length;

  name(view, "answer", ANSWER_PX / 2, { strong: true });
  strip(view, rows, colours, edges, { top: 0, height: ANSWER_PX });
  if (!labels.length) {
    student.dimensions.names.forEach((_, k) => {
      scale(view, rows, student, k, edges, { top: top + SCALE_PX * k, height: SCALE_PX });
    });
    return axis(view, x, seconds);
  }
  labels.forEach((label, line) => {
    const y = top + line * cell;
    const { fill, on } = emotion(colours[label], view);
    name(view, label, y + cell / 2);
    draw.fillStyle = colour("track");
    draw.fillRect(left, y + 1, span, cell - 2);
    rows.forEach((row, k) => {
      const [from, to] = edges(k);
      draw.globalAlpha = row.shares[line];
      draw.fillStyle = fill;
      draw.fillRect(from, y + 1, Math.max(1, to - from - (to - from > 6 ? 1 : 0)), cell - 2);
      draw.globalAlpha = 1;
      const radius = Math.min(3, (to - from) / 2 - 1);
      if (row.shares[line] < Math.max(...row.shares) || radius < 1) return;
      draw.beginPath();
      draw.arc((from + to) / 2, y + cell / 2, radius, 0, 2 * Math.PI);
      draw.fillStyle = row.shares[line] > 0.6 ? on : colour("text");
      draw.fill();
    });
  });
  axis(view, x, seconds);
}

const LIVE_SECONDS = 20;
const LIVE_LOWEST_DB = -70;

/**
 * While recording: the level of the last seconds, and above it what the windows say.
 *
 * @param levels of each block, `{level}` in dB of full scale.
 * @param seconds since the recording began.
 */
export function live(canvas, levels, rows, colours, seconds, hop) {
  const view = prepared(canvas);
  const { draw, height, left, span, colour } = view;
  const shown = Math.max(LIVE_SECONDS, 5 * Math.ceil(seconds / 5));
  const x = (second) => left + (Math.min(Math.max(second, 0), shown) / shown) * span;
  name(view, "answer", ANSWER_PX / 2, { strong: true });
  const bottom = height - AXIS_PX;
  const room = bottom - ANSWER_PX - 10;
  name(view, "level", bottom - room / 2);
  draw.fillStyle = colour("track");
  draw.fillRect(left, 0, span, ANSWER_PX);
  if (rows.length) {
    // The first window has heard less than its length by then.
    const edges = (k) => [x(rows[k].at - hop), x(rows[k].at)];
    strip(view, rows, colours, edges, { top: 0, height: ANSWER_PX });
  }
  draw.fillStyle = colour("line");
  draw.fillRect(left, bottom - 1, span, 1);
  draw.fillStyle = colour("ink-graphic");
  const columns = Math.floor(span / 3);
  for (let column = 0; column < columns; column++) {
    const from = Math.floor(((column * shown) / columns / seconds) * levels.length);
    const to = Math.floor((((column + 1) * shown) / columns / seconds) * levels.length);
    if (from >= levels.length) break;
    const loudest = Math.max(...levels.slice(from, Math.max(from + 1, to)).map(({ level }) => level));
    const tall = Math.max(1, (1 - Math.max(loudest, LIVE_LOWEST_DB) / LIVE_LOWEST_DB) * room);
    draw.fillRect(left + column * 3, bottom - tall, 2, tall);
  }
  axis(view, x, shown);
}

/** A timeline in words. */
export function said(rows) {
  const parts = [];
  for (let k = 0; k < rows.length; ) {
    let next = k + 1;
    while (next < rows.length && rows[next].label === rows[k].label) next++;
    const sure = rows[k].label !== null;
    const highest = Math.max(...rows.slice(k, next).map((row) => row.shares[row.shown]));
    parts.push(
      `${rows[k].start.toFixed(1)} to ${rows[next - 1].end.toFixed(1)} s ` +
        (sure ? `${rows[k].label}${rows[k].shares.length ? `, up to ${percent(highest, 0)}` : ""}` : "unsure"),
    );
    k = next;
  }
  return parts.join("; ");
}
