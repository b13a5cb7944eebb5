// Arousal, valence and dominance: a point in a plane, the windows' trail behind it, and the same in words.

import { WITHOUT_SPEECH } from "./student.js";

/** From the middle to an end, what is still neither, and from where on it is very much so. */
const NEITHER = 0.2;
const VERY = 0.6;
/** The picture's edges in its own units: room for words at the left and below. */
const PLANE = { left: 30, top: 4, side: 282 };

/** A value as shown, which is within the scale. */
export function shown(student, value) {
  const [low, high] = student.dimensions.range;
  return Math.min(Math.max(value, low), high).toFixed(high - low > 2 ? 1 : 2);
}

/** From 0 to 1 where the value is on the scale. */
export function place(student, value) {
  const [low, high] = student.dimensions.range;
  return Math.min(Math.max((value - low) / (high - low), 0), 1);
}

/** What the plane shows, if a student gives both. */
const IN_PLANE = ["arousal", "valence"];
const hasPlane = (student) => IN_PLANE.every((name) => student.dimensions.names.includes(name));
/** The dimensions that the plane does not show. */
const besidePlane = (student) => student.dimensions.names.filter((name) => !hasPlane(student) || !IN_PLANE.includes(name));

/** The values of a window or an answer by name; null where there is no speech. */
function named(student, found) {
  if (!found?.values || WITHOUT_SPEECH.includes(found.why)) return null;
  return Object.fromEntries(student.dimensions.names.map((name, k) => [name, found.values[k]]));
}

/** How much of a dimension that is, in words. */
function degree(student, name, value) {
  const [low, high] = student.dimensions.ends[name];
  const off = 2 * place(student, value) - 1;
  if (Math.abs(off) < NEITHER) return `neither ${low} nor ${high}`;
  return `${Math.abs(off) < VERY ? "" : "very "}${off < 0 ? low : high}`;
}

/** The values in one line, as a student without classes has them in the answer's place. */
export function numbers(student, found) {
  return student.dimensions.names.map((name, k) => `${name} ${shown(student, found.values[k])}`).join(", ");
}

/** The values and the ends of their scale: without classes, no word is put in their place. */
function onScale(student, values) {
  const [low, high] = student.dimensions.range;
  const parts = Object.entries(values).map(([name, value]) => {
    const [first, last] = student.dimensions.ends[name];
    return `${name[0].toUpperCase()}${name.slice(1)} ${shown(student, value)}, from ${first} (${low}) to ${last} (${high}).`;
  });
  return parts.join(" ");
}

/** What was heard, in one sentence or a few; empty without an answer. */
export function sentence(student, found) {
  const values = named(student, found);
  if (!values) return "";
  if (!student.labels.length) return onScale(student, values);
  const parts = Object.entries(values).map(
    ([name, value]) => `${degree(student, name, value)} (${name} ${shown(student, value)})`,
  );
  const [low, high] = student.dimensions.range;
  const listed = parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts[0];
  return `It sounds ${listed}, on a scale from ${low} to ${high}.`;
}

function drawn(kind, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** Frame, cross and the names of the ends. */
function frame(student) {
  const { left, top, side } = PLANE;
  const [low, high] = student.dimensions.range;
  const [middle, bottom] = [side / 2, top + side];
  const across = (x, text, anchor) =>
    drawn("text", { x: left + x, y: bottom + 18, "text-anchor": anchor, class: "end" }, text);
  const up = (y, text, anchor) =>
    drawn("text", { transform: `translate(${left - 11} ${y}) rotate(-90)`, "text-anchor": anchor, class: "end" }, text);
  return [
    drawn("rect", { x: left, y: top, width: side, height: side, rx: 10, class: "frame" }),
    drawn("path", {
      d: `M${left + middle} ${top}v${side}M${left} ${top + middle}h${side}`,
      class: "cross",
    }),
    across(0, `${student.dimensions.ends.valence[0]} (${low})`, "start"),
    across(side, `${student.dimensions.ends.valence[1]} (${high})`, "end"),
    up(bottom, `${student.dimensions.ends.arousal[0]} (${low})`, "start"),
    up(top, `${student.dimensions.ends.arousal[1]} (${high})`, "end"),
  ];
}

/** Where values lie in the picture. */
function point(student, values) {
  const { left, top, side } = PLANE;
  return [left + place(student, values.valence) * side, top + (1 - place(student, values.arousal)) * side];
}

/** The windows one after the other, the first of them as a ring. */
function trail(student, rows) {
  const points = rows.map((row) => named(student, row)).filter(Boolean).map((values) => point(student, values));
  if (points.length < 2) return [];
  return [
    drawn("polyline", { points: points.map((each) => each.join()).join(" "), class: "trail" }),
    ...points.map(([cx, cy], k) => drawn("circle", { cx, cy, r: k ? 2.5 : 4, class: k ? "step" : "first" })),
  ];
}

/** How the windows move, in words. */
function course(student, rows) {
  const heard = rows.map((row) => named(student, row)).filter(Boolean);
  if (heard.length < 2) return "";
  const at = ({ arousal, valence }) => `arousal ${shown(student, arousal)}, valence ${shown(student, valence)}`;
  return ` Its windows, ${heard.length} of them, go from ${at(heard[0])} to ${at(heard.at(-1))}.`;
}

function plane(student, found, rows) {
  const values = named(student, found);
  const marks = [];
  if (values) {
    const [cx, cy] = point(student, values);
    marks.push(drawn("circle", { cx, cy, r: 9, class: found.label === null ? "point unsure" : "point" }));
  }
  const { ends } = student.dimensions;
  const picture = document.getElementById("plane");
  picture.replaceChildren(...frame(student), ...trail(student, rows), ...marks);
  const where = values
    ? `The answer is at arousal ${shown(student, values.arousal)}, valence ${shown(student, values.valence)}.`
    : "There is no point yet.";
  picture.setAttribute(
    "aria-label",
    `Plane of valence, from ${ends.valence.join(" to ")}, and arousal, from ${ends.arousal.join(" to ")}. ` +
      where + course(student, rows),
  );
}

/** A dimension as a dot on a line. */
function line(student, name, value) {
  const row = document.createElement("li");
  const part = (className, text = "") => {
    const made = document.createElement("span");
    made.className = className;
    made.textContent = text;
    return made;
  };
  const track = part("track");
  track.setAttribute("aria-hidden", "true");
  if (value !== undefined) {
    const dot = part("dot");
    dot.style.left = `${100 * place(student, value)}%`;
    track.append(dot);
  }
  const [low, high] = student.dimensions.range;
  const [first, last] = student.dimensions.ends[name];
  const ends = part("ends");
  ends.append(part("", `${first} (${low})`), part("", `${last} (${high})`));
  row.append(part("name", name), part("number", value === undefined ? "–" : shown(student, value)), track, ends);
  return row;
}

/**
 * Shows a recording's dimensions, of a student that gives them.
 *
 * @param found the answer, or null before there is one.
 * @param rows its windows so far.
 */
export function tone(student, found, rows = []) {
  const part = document.getElementById("tone");
  part.hidden = !student.dimensions;
  if (part.hidden) return;
  const values = named(student, found);
  document.getElementById("plane").toggleAttribute("hidden", !hasPlane(student));
  if (hasPlane(student)) plane(student, found, rows);
  document.getElementById("tone-words").textContent =
    sentence(student, found) || (found ? "No speech was found, so there is nothing to place." : "The answer appears here.");
  document.getElementById("values").replaceChildren(...besidePlane(student).map((name) => line(student, name, values?.[name])));
  document.getElementById("tone-legend").textContent =
    hasPlane(student) && rows.length > 1
      ? "The large mark is the answer. The line joins the windows, from the small ring on."
      : "";
}

/** Pixels of the saved picture: the plane's side, a line's height, and room for words. */
const SAVED = { side: 480, line: 96, words: 60 };

/** The plane, and a line per dimension that is not in it, in the saved picture of a student without classes. */
export function picture(draw, student, found, rows, { left, top, colour, font }) {
  const values = named(student, found);
  const [low, high] = student.dimensions.range;
  const { side, words } = SAVED;
  const write = (text, x, y, align, size = 24) => {
    draw.font = font(400, size);
    draw.fillStyle = colour("soft");
    draw.textAlign = align;
    draw.fillText(text, x, y);
  };
  const disc = (x, y, radius, fill, edge, thick) => {
    draw.beginPath();
    draw.arc(x, y, radius, 0, 2 * Math.PI);
    draw.fillStyle = fill;
    draw.fill();
    draw.strokeStyle = edge;
    draw.lineWidth = thick;
    draw.stroke();
  };
  let below = top;
  if (hasPlane(student)) {
    const x = left + 40;
    const at = (each) => [x + place(student, each.valence) * side, top + (1 - place(student, each.arousal)) * side];
    draw.strokeStyle = colour("edge");
    draw.lineWidth = 2;
    draw.beginPath();
    draw.roundRect(x, top, side, side, 16);
    draw.stroke();
    draw.setLineDash([4, 8]);
    draw.beginPath();
    draw.moveTo(x + side / 2, top);
    draw.lineTo(x + side / 2, top + side);
    draw.moveTo(x, top + side / 2);
    draw.lineTo(x + side, top + side / 2);
    draw.stroke();
    draw.setLineDash([]);
    const points = rows.map((row) => named(student, row)).filter(Boolean).map(at);
    if (points.length > 1) {
      draw.beginPath();
      points.forEach(([px, py], k) => (k ? draw.lineTo(px, py) : draw.moveTo(px, py)));
      draw.stroke();
      points.forEach(([px, py], k) => disc(px, py, k ? 4 : 7, colour(k ? "edge" : "surface"), colour("edge"), k ? 1 : 3));
    }
    if (values) disc(...at(values), 15, colour("accent"), colour("text"), 4);
    write(`${student.dimensions.ends.valence[0]} (${low})`, x, top + side + 28, "left");
    write(`${student.dimensions.ends.valence[1]} (${high})`, x + side, top + side + 28, "right");
    draw.save();
    draw.translate(left + 16, top + side);
    draw.rotate(-Math.PI / 2);
    write(`${student.dimensions.ends.arousal[0]} (${low})`, 0, 0, "left");
    write(`${student.dimensions.ends.arousal[1]} (${high})`, side, 0, "right");
    draw.restore();
    below += side + words;
  }
  besidePlane(student).forEach((name, k) => {
    const y = below + SAVED.line * k + 34;
    draw.fillStyle = colour("track");
    draw.beginPath();
    draw.roundRect(left + 40, y - 10, side, 20, 10);
    draw.fill();
    if (values) disc(left + 40 + place(student, values[name]) * side, y, 15, colour("accent"), colour("text"), 4);
    write(`${student.dimensions.ends[name][0]} (${low})`, left + 40, y + 34, "left");
    write(`${student.dimensions.ends[name][1]} (${high})`, left + 40 + side, y + 34, "right");
    write(name, left + 70 + side, y, "left");
  });
}

/** How tall that is. */
picture.height = (student) =>
  (hasPlane(student) ? SAVED.side + SAVED.words : 0) + SAVED.line * besidePlane(student).length;
