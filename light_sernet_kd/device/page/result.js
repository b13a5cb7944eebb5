// A recording's answer as files: JSON with what `light-sernet-kd predict --json` says, and a picture.

import { emotion, shortened } from "./pictures.js";
import { numbers, picture as planePicture, sentence as toneOf } from "./plane.js";
import { doubt, likelihood, others, percent } from "./words.js";

/** The answer as `predict --json` has it, with the timeline's windows as `timeline`. */
export function result(student, { name, sound, answer, rows, speaker_clips, warnings }) {
  const seconds = sound.length / student.sample_rate;
  const shares = (values) => Object.fromEntries(student.labels.map((label, k) => [label, values[k]]));
  const hasClasses = student.labels.length > 0;
  /** Dimensions by name under these names, of a student that gives them. */
  const dimensions = (lists) =>
    student.dimensions &&
    Object.fromEntries(
      Object.entries(lists).map(([name, values]) => [
        name,
        Object.fromEntries(student.dimensions.names.map((each, k) => [each, values[k]])),
      ]),
    );
  return {
    file: name,
    label: student.labels[answer.shown] ?? null,
    probabilities: shares(answer.probabilities),
    unsure: answer.label === null,
    reason: answer.why || null,
    ...dimensions({ dimensions: answer.values }),
    ...(student.dimensions && { dimension_range: student.dimensions.range }),
    seconds,
    heard: [0, seconds],
    windows: rows.length,
    time_shares: hasClasses ? answer.time_shares : {},
    unsure_shares: answer.unsure_shares,
    speaker_clips,
    warnings,
    model: student.name,
    corpus: student.corpus,
    synthetic: student.synthetic,
    stamps: student.card_stamps,
    timeline: rows.map((row) => ({
      start: row.start,
      end: row.end,
      label: row.label === null ? "unsure" : hasClasses ? row.label : null,
      reason: row.why || null,
      probabilities: shares(row.probabilities),
      smoothed: shares(row.shares),
      ...dimensions({ dimensions: row.dimensions, smoothed_dimensions: row.values }),
    })),
  };
}

/** Saves something under a name, as a download. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const WIDTH = 1200;
const EDGE = 72;

/** The text in lines of a width in pixels. */
function lines(draw, text, most) {
  const made = [""];
  for (const word of text.split(" ")) {
    const longer = made.at(-1) ? `${made.at(-1)} ${word}` : word;
    if (made.at(-1) && draw.measureText(longer).width > most) made.push(word);
    else made[made.length - 1] = longer;
  }
  return made;
}

/** The answer as a picture of 1200 pixels, in the page's theme; stamps of the model are on it. */
export function picture(student, { name, sound, answer, rows }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (each) => style.getPropertyValue(`--${each}`).trim();
  const dark = colour("scheme") === "dark";
  const font = (weight, size) => `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  const canvas = document.createElement("canvas");
  canvas.width = WIDTH;
  const draw = canvas.getContext("2d");
  draw.font = font(400, 24);
  const sure = answer.label !== null;
  const hasClasses = student.labels.length > 0;
  const share = answer.shares[answer.shown];
  const ofClasses = () => `${likelihood(share)}: ${percent(share)}. ${others(student, answer)}`;
  const words = !sure ? doubt(student, answer) : hasClasses ? ofClasses() : toneOf(student, answer);
  const left = EDGE + (hasClasses ? 240 : 0);
  const sentence = lines(draw, words[0].toUpperCase() + words.slice(1), WIDTH - left - EDGE);
  const stamps = student.stamps.flatMap((stamp) => lines(draw, stamp, WIDTH - 2 * EDGE));
  const top = EDGE + 34 * stamps.length + (stamps.length ? 24 : 0);
  const begin = top + (hasClasses ? 260 : 120 + 34 * sentence.length);
  const tone = student.dimensions && hasClasses ? lines(draw, toneOf(student, answer), WIDTH - 2 * EDGE) : [];
  const end = begin + (hasClasses ? 52 * student.labels.length : planePicture.height(student));
  canvas.height = end + 34 * tone.length + 90 + EDGE / 2;
  draw.fillStyle = colour("surface");
  draw.fillRect(0, 0, canvas.width, canvas.height);
  draw.textBaseline = "middle";
  const write = (text, x, y, look, ink, align = "left") => {
    draw.font = look;
    draw.fillStyle = ink;
    draw.textAlign = align;
    draw.fillText(text, x, y);
  };

  stamps.forEach((line, k) => write(line, EDGE, EDGE + 34 * k, font(400, 24), colour("stamp")));
  const [x, y] = [EDGE + 96, top + (hasClasses ? 100 : 70)];
  const ring = () => {
    draw.lineWidth = sure ? 22 : 4;
    draw.strokeStyle = colour(sure ? "track" : "edge");
    draw.setLineDash(sure ? [] : [12, 10]);
    draw.beginPath();
    draw.arc(x, y, 84, 0, 2 * Math.PI);
    draw.stroke();
    draw.setLineDash([]);
    if (sure) {
      draw.strokeStyle = emotion(student.colours[answer.label], { dark }).fill;
      draw.beginPath();
      draw.arc(x, y, 84, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
      draw.stroke();
    }
    write(sure ? percent(share, 0) : "?", x, y + 2, font(650, 40), colour("text"), "center");
  };
  if (hasClasses) ring();
  else planePicture(draw, student, answer, rows, { left: EDGE, top: begin, colour, font });
  const title = sure && !hasClasses ? numbers(student, answer) : (answer.label ?? "unsure");
  draw.font = font(680, hasClasses ? 72 : 38);
  write(shortened(draw, title, WIDTH - left - EDGE), left, y - 34, draw.font, colour("text"));
  sentence.forEach((line, k) => write(line, left, y + 38 + 34 * k, font(400, 24), colour("soft")));

  student.labels.forEach((label, k) => {
    const at = begin + 52 * k;
    const best = k === answer.shown;
    draw.font = font(best ? 650 : 400, 26);
    write(shortened(draw, label, 215), EDGE, at, draw.font, colour("text"));
    draw.fillStyle = colour("track");
    draw.beginPath();
    draw.roundRect(left, at - 13, WIDTH - left - EDGE - 130, 26, 8);
    draw.fill();
    draw.fillStyle = emotion(student.colours[label], { dark }).fill;
    draw.beginPath();
    draw.roundRect(left, at - 13, Math.max(2, answer.shares[k] * (WIDTH - left - EDGE - 130)), 26, 8);
    draw.fill();
    write(percent(answer.shares[k]), WIDTH - EDGE, at, font(best ? 650 : 400, 26), colour("text"), "right");
  });
  tone.forEach((line, k) => write(line, EDGE, end + 10 + 34 * k, font(400, 24), colour("text")));
  draw.font = font(400, 22);
  const seconds = (sound.length / student.sample_rate).toFixed(1);
  const footer = `${name} · ${seconds} s · ${student.name} · Light-SERNet KD`;
  write(shortened(draw, footer, WIDTH - 2 * EDGE), EDGE, canvas.height - EDGE, draw.font, colour("soft"));
  return new Promise((made) => canvas.toBlob(made, "image/png"));
}
