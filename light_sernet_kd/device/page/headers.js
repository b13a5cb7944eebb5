// What compressed files say of themselves before they are decoded: their rate, and how long they last.

const FLAC = 0x664c6143; // fLaC
const OGG = 0x4f676753; // OggS
const VORBIS = 0x01766f72; // \x01vor(bis)
const OPUS = 0x4f707573; // Opus(Head)
const OPUS_RATE = 48000;
/** By MPEG's version: kbit/s of Layer III by index, samples of a frame, and the part of 44.1, 48 and 32 kHz. */
const SLOW = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const MPEG = {
  3: { kilobits: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320], samples: 1152, part: 1 },
  2: { kilobits: SLOW, samples: 576, part: 2 },
  0: { kilobits: SLOW, samples: 576, part: 4 },
};
/** Frames of an MP3 that an encoder may add: its own facts, and what it fills up. */
const ADDED_FRAMES = 4;

/** Where an MP3 begins behind its tag. */
function behindTag(view) {
  if (view.getUint32(0) >>> 8 !== 0x494433) return 0; // ID3
  let size = 0;
  for (let k = 6; k < 10; k++) size = (size << 7) | view.getUint8(k); // 7 bits in each byte
  return size + 10;
}

/** The version and the rate of the MPEG frame at a place; null of what is none. */
function mpeg(view, at) {
  if (view.getUint16(at) < 0xffe0) return null;
  const version = MPEG[(view.getUint8(at + 1) >> 3) & 3];
  const rate = version && [44100, 48000, 32000][(view.getUint8(at + 2) >> 2) & 3] / version.part;
  return rate ? { version, rate } : null;
}

/** Where the first packet of an Ogg file begins: behind the page's table of segments. */
const firstPacket = (view) => 27 + view.getUint8(26);

/**
 * The rate that a FLAC, Ogg Vorbis or MP3 file names, in Hz; null for others. A browser converts to the rate
 * that it is asked for worse than `resample` does, and what it adds to a recording at 16 kHz is heard.
 */
export function namedRate(view) {
  const magic = view.getUint32(0);
  if (magic === FLAC) return view.getUint32(18) >>> 12;
  if (magic !== OGG) return mpeg(view, behindTag(view))?.rate ?? null;
  const packet = firstPacket(view);
  return view.getUint32(packet) === VORBIS ? view.getUint32(packet + 12, true) : null;
}

/** Samples from the first of the pages of Ogg Vorbis or Opus that counts them to the last. */
function oggSeconds(view) {
  const isOpus = view.getUint32(firstPacket(view)) === OPUS;
  const rate = isOpus ? OPUS_RATE : namedRate(view);
  if (!rate) return 0;
  let first = null;
  let last = 0;
  for (let at = 0; at + 27 <= view.byteLength && view.getUint32(at) === OGG; ) {
    const count = view.getUint32(at + 6, true) + 2 ** 32 * view.getInt32(at + 10, true);
    if (count > 0) {
      first ??= count;
      last = count;
    }
    const segments = view.getUint8(at + 26);
    let size = 27 + segments;
    for (let k = 0; k < segments; k++) size += view.getUint8(at + 27 + k);
    at += size;
  }
  return first === null ? 0 : (last - first) / rate;
}

/** The frames of MPEG's Layer III that follow one another. */
function mp3Seconds(view) {
  let seconds = 0;
  let frame = 0;
  for (let at = behindTag(view); at + 4 <= view.byteLength; ) {
    const found = mpeg(view, at);
    const isLayer3 = ((view.getUint8(at + 1) >> 1) & 3) === 1;
    const kilobits = found?.version.kilobits[view.getUint8(at + 2) >> 4];
    if (!isLayer3 || !kilobits) break;
    const { version, rate } = found;
    if (frame++ >= ADDED_FRAMES) seconds += version.samples / rate;
    at += Math.floor((version.samples * 125 * kilobits) / rate) + ((view.getUint8(at + 2) >> 1) & 1);
  }
  return seconds;
}

/** Where the box of a name in an MP4 begins and ends, between two places; null without. */
function box(view, name, from, to) {
  for (let at = from; at + 8 <= to; ) {
    const short = view.getUint32(at);
    const [size, head] = short === 1 ? [Number(view.getBigUint64(at + 8)), 16] : [short || to - at, 8];
    if (size < head) return null;
    if (view.getUint32(at + 4) === name) return [at + head, Math.min(at + size, to)];
    at += size;
  }
  return null;
}

function mp4Seconds(view) {
  const movie = box(view, 0x6d6f6f76, 0, view.byteLength); // moov
  const facts = movie && box(view, 0x6d766864, ...movie); // mvhd
  if (!facts) return 0;
  const isLong = view.getUint8(facts[0]) === 1;
  const scale = facts[0] + (isLong ? 20 : 12);
  const length = isLong ? Number(view.getBigUint64(scale + 4)) : view.getUint32(scale + 4);
  return length / (view.getUint32(scale) || Infinity);
}

/**
 * How long a compressed file lasts at least, in seconds, by its own words; 0 where it does not say. A megabyte may
 * hold hours, and decoding takes the memory of all of them.
 */
export function leastSeconds(view) {
  try {
    const magic = view.getUint32(0);
    if (magic === OGG) return oggSeconds(view);
    if (magic === FLAC) return ((view.getUint8(21) & 15) * 2 ** 32 + view.getUint32(22)) / (namedRate(view) || Infinity);
    if (view.getUint32(4) === 0x66747970) return mp4Seconds(view); // ftyp
    return mp3Seconds(view);
  } catch (error) {
    if (error instanceof RangeError) return 0; // a file that ends early
    throw error;
  }
}
