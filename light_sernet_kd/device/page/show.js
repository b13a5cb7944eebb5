// What the page shows: the answer, the timeline, the model's facts. Nothing here decides anything.

import * as pictures from "./pictures.js";
import { numbers, shown, tone } from "./plane.js";
import { doubt, likelihood, loudness, named, others, percent } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function filled(parent, ...children) {
  parent.replaceChildren(...children);
  return parent;
}

export function element(kind, text = "", className = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = className;
  return made;
}

/** Gives an element the colours of a class, for both themes; of none where there is none. */
function paint(target, colours) {
  for (const [name, value] of Object.entries(colours ?? {})) target.style.setProperty(`--of-${name}`, value);
  target.classList.toggle("emotion", Boolean(colours));
}

/** Bars in the classes' order; empty ones where there is no answer. */
export function bars(student, found) {
  $("bars").hidden = $("threshold").hidden = !student.labels.length;
  const rows = student.labels.map((label, k) => {
    const share = found?.shares[k] ?? 0;
    const row = element("li", "", found?.shown === k ? "best" : "");
    paint(row, student.colours[label]);
    const fill = element("span", "", "fill");
    fill.style.width = `${100 * share}%`;
    const mark = element("span", "", "mark");
    mark.style.left = `${100 * student.unsure_below}%`;
    const track = filled(element("span", "", "track"), fill, mark);
    track.setAttribute("aria-hidden", "true");
    return filled(row, element("span", label, "name"), track, element("span", found ? percent(share) : "–", "number"));
  });
  filled($("bars"), ...rows);
  $("threshold").textContent = `Below the dotted line, ${percent(student.unsure_below, 0)}, the answer is unsure.`;
}

function ring(share, text, colours) {
  paint($("hero"), colours);
  $("ring").style.setProperty("--share", 100 * share);
  $("ring-text").textContent = text;
}

/**
 * @param where what the answer is about, in a sentence.
 * @param rows the windows that it is of, or none.
 */
export function answer(student, found, where, rows = []) {
  const share = found.shares[found.shown];
  const sure = found.label !== null;
  const hasClasses = student.labels.length > 0;
  $("hero").className = sure ? "sure" : "unsure";
  $("label").textContent = !sure ? "unsure" : hasClasses ? found.label : numbers(student, found);
  const words = likelihood(share);
  $("confidence").textContent = !sure
    ? doubt(student, found)
    : hasClasses
      ? `${words[0].toUpperCase()}${words.slice(1)}: ${percent(share)}. ${others(student, found)}`
      : "";
  $("reason").textContent = where;
  if (sure && hasClasses) ring(share, percent(share, 0), student.colours[found.label]);
  else ring(0, hasClasses ? "?" : "", null);
  bars(student, found);
  paint($("tone"), sure && hasClasses ? student.colours[found.label] : null);
  tone(student, found, rows);
  // On a small screen the answer is below the buttons.
  if ($("hero").getBoundingClientRect().top > innerHeight - 160) $("hero").scrollIntoView({ block: "center" });
}

/** Bars and plane of a student before there is an answer. */
export function unanswered(student) {
  bars(student, null);
  tone(student, null);
}

export function noAnswer(student, label, text) {
  $("hero").className = "none";
  $("label").textContent = label;
  $("confidence").textContent = "";
  $("reason").textContent = text;
  $("sound").hidden = $("save").hidden = true;
  ring(0, "", null);
  unanswered(student);
}

/** Everything about a recording over time. */
export function clip(student, { sound, rows, name, spectrogram }) {
  const rate = student.sample_rate;
  const seconds = sound.length / rate;
  $("sound").hidden = $("save").hidden = false;
  $("clip").textContent = `${name} · ${seconds.toFixed(2)} s, one channel at ${rate / 1000} kHz`;
  $("timeline").style.height = `${pictures.timelineHeight(student)}px`;
  pictures.timeline($("timeline"), rows, student, seconds);
  pictures.waveform($("waveform"), sound);
  pictures.spectrogram($("spectrogram"), spectrogram, rate);
  const described = (id, text) => $(id).setAttribute("aria-label", text);
  described("waveform", `Waveform of ${seconds.toFixed(1)} seconds`);
  described("spectrogram", `Mel spectrogram from 50 Hz to ${rate / 2000} kHz over ${seconds.toFixed(1)} seconds`);
  described("timeline", `Timeline: ${pictures.said(rows)}`);
  const length = +(student.samples / rate).toFixed(1);
  $("legend").textContent =
    (rows.length > 1
      ? `Each column is a window of ${length} s, drawn at its middle. Windows follow every ${student.hop_seconds} s and are smoothed. `
      : `The recording fits into one window of ${length} s. `) +
    (student.labels.length
      ? "The fuller the colour, the likelier. The dot marks the likeliest. Dashed means unsure."
      : "The higher a bar, the nearer to the end that is written above. Dashed means unsure.");
  filled(
    document.querySelector("#numbers thead"),
    filled(element("tr"), ...["Window", "Answer", ...student.labels, ...(student.dimensions?.names ?? [])].map(head)),
  );
  filled(document.querySelector("#numbers tbody"), ...rows.map((row) => tableRow(student, row)));
  const [low, high] = student.dimensions?.range ?? [];
  $("caption-classes").hidden = !student.labels.length;
  $("caption-more").textContent = student.dimensions
    ? ` ${student.dimensions.names.join(", ")}: smoothed${student.labels.length ? " too" : ""}, on a scale from ${low} to ${high}.`
    : "";
}

function head(text) {
  const cell = element("th", text);
  cell.scope = "col";
  return cell;
}

function tableRow(student, row) {
  const when = element("th", `${row.start.toFixed(1)}–${row.end.toFixed(1)} s`);
  when.scope = "row";
  const cells = row.shares.map((share, k) => element("td", (100 * share).toFixed(1), k === row.shown ? "best" : ""));
  const values = (row.values ?? []).map((value) => element("td", shown(student, value)));
  return filled(element("tr"), when, element("td", named(row)), ...cells, ...values);
}

/** The microphone while it records. */
export function microphone(levels) {
  const latest = levels.slice(-3);
  const heard = {
    level: Math.max(-70, ...latest.map(({ level }) => level)),
    peak: Math.max(-120, ...latest.map(({ peak }) => peak)),
  };
  const words = loudness(heard);
  $("meter").style.setProperty("--level", 1 + heard.level / 70);
  $("meter").dataset.loudness = words;
  $("meter").setAttribute("aria-valuenow", Math.round(heard.level));
  $("meter").setAttribute("aria-valuetext", `${Math.round(heard.level)} dB, ${words}`);
  $("loudness").textContent = words;
}

export function live(student, levels, rows, seconds) {
  pictures.live($("live"), levels, rows, student.colours, seconds, student.hop_seconds);
}

/** What is asked and answered: emotions, or how a voice sounds on scales. */
function wording(student) {
  const hasClasses = student.labels.length > 0;
  document.body.classList.toggle("rated", !hasClasses);
  $("question").textContent = hasClasses ? "Which emotion does this voice sound like?" : "How does this voice sound?";
  $("about-words").textContent = hasClasses
    ? "It says which of its emotions a voice resembles most, as the people of its corpus played or labelled them."
    : `It says how a voice sounds on scales (${student.dimensions.names.join(", ")}), as listeners rated its corpus.`;
}

/** What is known of the model, and above all what limits its answers. */
export function facts(student) {
  wording(student);
  $("notice").hidden = !student.stamps.length;
  filled($("notice"), ...student.stamps.map((stamp) => element("p", stamp)));
  filled(
    $("facts"),
    ...student.facts.map(([title, text]) => filled(element("div"), element("dt", title), element("dd", text))),
  );
}
