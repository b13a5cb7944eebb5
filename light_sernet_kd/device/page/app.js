// The page: what is pressed, dropped and chosen, and what it shows.

import * as pictures from "./pictures.js";
import { picture, result, save } from "./result.js";
import * as show from "./show.js";
import { $, element, filled } from "./show.js";
import { decode, record, wav } from "./sound.js";
import { Speaker, heardIn } from "./speaker.js";
import { Timeline, answer, fit, level, levelRangeDb, openStudent, summary, windows } from "./student.js";
import { times } from "./words.js";

/** What a recording or a file may last, and how large a file may be; tests lower it. */
const longest = { seconds: 300, bytes: 256e6 };
const PAUSE_MILLISECONDS = 40; // after that much work in one go, the page may answer to keys
const PROGRESS_MILLISECONDS = 2000; // screen readers read each message out
const METER_MILLISECONDS = 100;
const NARROW_BAND_HZ = 8000;
const METERS_PER_PICTURE = 3; // drawing more often may take time from the sound

const pause = (milliseconds = 0) => new Promise((resolve) => setTimeout(resolve, milliseconds));
/** Of whatever was thrown: compiled code may throw a number. */
const reason = (error) => error?.message || String(error);
/** What the page says before there is a recording. */
const atFirst = { label: $("label").textContent, reason: $("reason").textContent };

let students = [];
let student = null;
/** Who is known to the student, whether or not the answers are for that one; null where the file has no place for it. */
let speaker = null;
/**
 * The present recording: `{name, sound, spectrogram, answer, rows, unlearnt, warnings, speaker_clips}`; the last is
 * how many clips of the speaker it was answered with.
 */
let clip = null;
let microphone = null;
/** Whether a model is loaded, a file read, or the microphone started: nothing else may be begun then. */
let busy = true;
/** Counts what was begun: of two that overlap, the later one wins. */
let turn = 0;

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

/** Classifies the present recording and shows the answers, or says why there are none. */
async function classify() {
  const mine = ++turn;
  try {
    await answerAll(mine);
  } catch (error) {
    if (mine !== turn) return;
    Object.assign(clip, { answer: null, rows: [] });
    say("");
    show.noAnswer(student, "No answer", `${clip.name} was not classified.`);
    complain(
      `The model (${student.precision}) failed on ${clip.name}: ${reason(error)}. Reload the page, or choose another ` +
        "precision.",
    );
  }
}

/** The present recording in windows, then as a whole, until something later has begun. */
async function answerAll(mine) {
  const { sound } = clip;
  const rate = student.sample_rate;
  clip.speaker_clips = student.speaker?.clips ?? 0; // before this recording is learnt
  const seconds = (sound.length / rate).toFixed(1);
  const fits = sound.length <= student.samples;
  if (fits) {
    const found = await answer(student, sound);
    if (mine !== turn) return;
    clip.answer = found;
    show.answer(student, found, `All ${seconds} s were heard.`);
  } else {
    show.noAnswer(student, "Listening to it…", `${clip.name}, window by window.`);
  }
  const rows = [];
  const timeline = new Timeline(student);
  let worked = performance.now();
  let told = worked;
  for (const [from, to] of windows(sound.length, student.samples, Math.round(student.hop_seconds * rate))) {
    rows.push({ start: from / rate, end: to / rate, ...(await timeline.next(sound.subarray(from, to))) });
    if (performance.now() - worked > PAUSE_MILLISECONDS) {
      if (performance.now() - told > PROGRESS_MILLISECONDS) {
        say(`Timeline: ${(to / rate).toFixed(0)} of ${seconds} s`);
        told = performance.now();
      }
      await pause();
      worked = performance.now();
    }
    if (mine !== turn) return;
  }
  clip.rows = rows;
  const learnt = learn();
  if (fits) {
    // A recording that is too short as a whole is so in its window.
    if (clip.answer.why === "too short") Object.assign(rows[0], { label: null, why: "too short" });
  } else {
    clip.answer = summary(student, rows);
    const where = `All ${seconds} s were heard, in ${rows.length} windows: ${times(clip.answer)} of the time.`;
    show.answer(student, clip.answer, where, rows);
  }
  show.clip(student, clip);
  const taken = rows.map((row) => row.milliseconds).sort((a, b) => a - b);
  const median = taken[Math.floor(taken.length / 2)];
  const many = rows.length > 1 ? `${rows.length} windows, ${median.toFixed(0)} ms each` : `${median.toFixed(0)} ms`;
  say(`Done: ${many}, ${student.precision}.${learnt ? " Your voice was learnt from it." : ""}`);
}

/** Takes a new recording of the microphone into what is known of the speaker; returns whether it was. */
function learn() {
  if (!student.speaker || !clip.unlearnt) return false;
  clip.unlearnt = false; // once, however often it is classified
  const heard = heardIn(student, clip.sound, clip.rows);
  const kept = heard.length > 0 && speaker.add(heard);
  showSpeaker(heard.length && !kept ? "It is forgotten when this page is closed." : "");
  return heard.length > 0;
}

const clips = (count) => `${+count.toFixed(1)} clip${count === 1 ? "" : "s"}`;

/** What is known of the speaker, in a sentence. */
function showSpeaker(note = "") {
  $("speaker").hidden = !speaker;
  if (!speaker) return;
  const { checked } = $("learn");
  $("forget").hidden = !speaker.clips;
  $("known").textContent = speaker.clips
    ? checked
      ? `Answers are for a voice known by ${clips(speaker.clips)}. ${note}`
      : `A voice is known by ${clips(speaker.clips)}, and answers are for anyone.`
    : checked
      ? "Record yourself: some 10 clips are enough. Nobody else should speak. Nothing leaves this browser."
      : "A model that knows your voice tells its emotions better.";
}

/** Answers from now on are for the speaker who is known, or for anyone. */
async function useSpeaker() {
  student.speaker = $("learn").checked ? speaker : null;
  showSpeaker();
  if (clip) await classify();
}

/** Takes a recording over and shows what the student makes of it. */
async function take(sound, name, { unlearnt = false, warnings = [] } = {}) {
  const spectrogram = pictures.melSpectrogram(sound, student.sample_rate);
  clip = { name, sound, spectrogram, rows: [], answer: null, unlearnt, warnings };
  URL.revokeObjectURL($("audio").src);
  $("audio").src = URL.createObjectURL(wav(sound, student.sample_rate));
  await classify();
}

async function takeFile(file) {
  if (!file) return;
  if (microphone) return complain(`${file.name} was not taken: stop the recording first.`);
  if (busy) return complain(`${file.name} was not taken: the page is busy, try again in a moment.`);
  if (file.size > longest.bytes) {
    const megabytes = (bytes) => Math.ceil(bytes / 1e6);
    return complain(
      `${file.name} has ${megabytes(file.size)} MB, and the page takes up to ${megabytes(longest.bytes)} MB: cut it, or ` +
        "take light-sernet-kd predict.",
    );
  }
  await takeContent(file.name, () => file.arrayBuffer());
}

/** @param content gives the file's bytes. */
async function takeContent(name, content) {
  say(`Reading ${name}…`);
  complain("");
  enable(false);
  lock(true);
  let sound;
  let warnings;
  try {
    const found = await decode(await content(), longest.seconds);
    if (found.seconds > longest.seconds) {
      say("");
      return complain(
        `${name} lasts ${Math.ceil(found.seconds)} s, and the page takes up to ${longest.seconds} s: cut it, or ` +
          "take light-sernet-kd predict.",
      );
    }
    sound = found.samples(student.sample_rate);
    warnings = narrowBand(name, found.rate);
  } catch (error) {
    say("");
    return complain(`${name} cannot be read: ${reason(error)}.`);
  } finally {
    lock(false);
    enable(true);
  }
  await take(sound, name, { warnings });
}

/** What `predict` warns of a recording that was made or sent at 8 kHz, as telephones do: none or one sentence. */
function narrowBand(name, rate) {
  if (rate > NARROW_BAND_HZ) return [];
  const hertz = (number) => number.toLocaleString("en-US");
  const above = hertz(Math.floor(rate / 2));
  return [`${name} is narrow-band: recorded at ${hertz(rate)} Hz, it holds nothing above ${above} Hz.`];
}

/** An example recording: its file is beside the page. */
async function takeExample({ file, name }) {
  if (busy || microphone) return;
  await takeContent(name, async () => {
    const answered = await fetch(file);
    if (!answered.ok) throw new Error(`${file} cannot be loaded (${answered.status})`);
    return answered.arrayBuffer();
  });
}

async function startRecording() {
  complain("");
  enable(false);
  lock(true); // the timeline below holds this student
  turn++;
  try {
    microphone = await record();
  } catch (error) {
    lock(false);
    enable(true);
    await goBack();
    return complain(`No recording: ${reason(error)}.`);
  }
  $("record").setAttribute("aria-disabled", "false");
  $("record").classList.add("recording");
  $("record-text").textContent = "Stop";
  // What is there is another recording.
  show.noAnswer(student, "Listening…", "The latest windows, smoothed, while recording.");
  $("live").hidden = $("level").hidden = false;
  // A screen reader hears the end, not every half second.
  $("status").setAttribute("aria-live", "off");
  $("verdict").setAttribute("aria-live", "off");
  const mine = microphone;
  const timeline = new Timeline(student);
  const rows = [];
  let note = "";
  showMicrophone(mine, rows);
  mine.ended.then(() => (note = "The microphone went away: the recording ends there."));
  while (!note && mine.seconds() < longest.seconds) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * student.hop_seconds));
    if (microphone !== mine) return;
    say(`Recording, ${mine.seconds().toFixed(1)} s of at most ${longest.seconds} s`);
    try {
      const latest = mine.latest(student.samples / student.sample_rate, student.sample_rate);
      if (latest.length < student.hop_seconds * student.sample_rate) continue;
      const found = await timeline.next(latest);
      if (microphone !== mine) return;
      rows.push({ ...found, at: mine.seconds() });
      show.answer(student, found, "The latest windows, smoothed, while recording.", rows);
    } catch (error) {
      if (microphone !== mine) return;
      note = `The model (${student.precision}) failed: ${reason(error)}. The recording ends there.`;
    }
  }
  await stopRecording(note);
}

/** Level and answers so far, until the recording ends. */
async function showMicrophone(mine, rows) {
  for (let k = 0; microphone === mine; k++) {
    show.microphone(mine.levels());
    if (mine.seconds() > 0 && k % METERS_PER_PICTURE === 0) show.live(student, mine.levels(), rows, mine.seconds());
    await pause(METER_MILLISECONDS);
  }
}

/** Ends the recording and takes it over; `note` says why it ended where nobody pressed Stop. */
async function stopRecording(note = "") {
  const ended = microphone;
  if (!note && ended.seconds() >= longest.seconds) {
    note = `The recording ends at ${longest.seconds} s, the longest that the page takes.`;
  }
  microphone = null;
  $("record").setAttribute("aria-disabled", "true");
  $("record").classList.remove("recording");
  $("record-text").textContent = "Record";
  $("live").hidden = $("level").hidden = true;
  $("status").setAttribute("aria-live", "polite");
  $("verdict").setAttribute("aria-live", "polite");
  say("Listening to it…");
  let sound = [];
  try {
    sound = await ended.stop(student.sample_rate, longest.seconds);
  } catch (error) {
    note = `The recording is lost: ${reason(error)}.`;
  }
  lock(false);
  enable(true);
  complain(note);
  // A file may be of anybody; who records is who is to be learnt.
  if (sound.length) return take(sound, "Recording", { unlearnt: true });
  await goBack();
  complain(note || "Nothing was recorded: let it run for a second or more.");
}

/** Shows what was there before a recording that came to nothing; it may have stopped a timeline. */
async function goBack() {
  if (clip) return classify();
  show.noAnswer(student, atFirst.label, atFirst.reason);
  say(`Ready, ${student.precision}.`);
}

/** Buttons that may not be pressed now stay where they are: a disabled one loses the keyboard's focus. */
function enable(on) {
  busy = !on;
  for (const id of ["record", "choose"]) {
    $(id).disabled = false;
    $(id).setAttribute("aria-disabled", String(!on));
  }
}

/** Precision and speaker are those of what is under way. */
function lock(on) {
  $("precisions").disabled = $("voice").disabled = on;
}

async function choosePrecision(facts) {
  const mine = ++turn;
  complain("");
  enable(false);
  say(`Loading the model, ${facts.precision}…`);
  try {
    const opened = await openStudent(facts);
    if (mine !== turn) return opened.close();
    student?.close();
    student = opened;
    knowSpeaker();
  } catch (error) {
    if (mine !== turn) return;
    say("");
    if (student) enable(true);
    // What is still open is what is chosen.
    for (const choice of document.getElementsByName("precision")) choice.checked = choice.value === student?.precision;
    return complain(`The model (${facts.precision}) does not run in this browser: ${reason(error)}.`);
  }
  enable(true);
  show.facts(student);
  say(`Ready, ${facts.precision}.`);
  if (clip) await classify();
  else show.unanswered(student);
}

/** What is known for the student that has just been opened. */
function knowSpeaker() {
  const { enrolled, profile } = student;
  // Another precision is the same student.
  if (!enrolled || !speaker?.key.endsWith(enrolled.embedding)) {
    speaker = enrolled ? new Speaker(enrolled, profile) : null;
    $("learn").checked = Boolean(speaker?.clips);
  }
  student.speaker = $("learn").checked ? speaker : null;
  showSpeaker();
}

function showPrecisions() {
  $("precision-note").hidden = students.length < 2;
  filled(
    $("precision-list"),
    ...students.map((facts, k) => {
      const choice = element("input");
      Object.assign(choice, { type: "radio", name: "precision", value: facts.precision, checked: k === 0 });
      choice.addEventListener("change", () => choosePrecision(facts));
      const text = filled(element("span", ""), facts.precision, element("small", facts.size));
      return filled(element("label"), choice, text);
    }),
  );
}

/** Example recordings as buttons; none where there are none. */
async function showExamples() {
  try {
    const { note, clips } = await (await fetch("examples.json")).json();
    const buttons = clips.map((each) => {
      const button = element("button", each.name, "example");
      button.type = "button";
      button.addEventListener("click", () => takeExample(each));
      return button;
    });
    filled($("example-list"), ...buttons);
    $("example-note").textContent = note;
    $("examples").hidden = !buttons.length;
  } catch {
    $("examples").hidden = true; // the page does without
  }
}

const stem = () => clip.name.replace(/\.\w+$/, "");

function saveJson() {
  const text = JSON.stringify(result(student, clip), null, 2);
  save(new Blob([text], { type: "application/json" }), `${stem()}.json`);
}

async function savePicture() {
  save(await picture(student, clip), `${stem()}.png`);
}

function follow() {
  const { currentTime, duration, paused } = $("audio");
  $("head").hidden = paused && !currentTime;
  if (duration) $("head").style.left = `${100 * pictures.place($("waveform"), currentTime / duration)}%`;
  if (!paused) requestAnimationFrame(follow);
}

function redraw() {
  // While recording, what is there is another one.
  if (clip?.rows.length && !$("sound").hidden) show.clip(student, clip);
}

function listen() {
  $("record").addEventListener("click", () => {
    if (microphone) stopRecording();
    else if (!busy) startRecording();
  });
  $("choose").addEventListener("click", () => busy || $("file").click());
  $("learn").addEventListener("change", useSpeaker);
  $("forget").addEventListener("click", () => {
    speaker.forget();
    $("learn").focus(); // the button goes away
    useSpeaker();
  });
  $("file").addEventListener("change", async () => {
    await takeFile($("file").files[0]);
    $("file").value = ""; // so that the same file may be chosen again
  });
  $("save-json").addEventListener("click", saveJson);
  $("save-png").addEventListener("click", savePicture);
  for (const event of ["play", "timeupdate", "seeked"]) $("audio").addEventListener(event, follow);
  let inside = 0; // every element that is entered and left tells
  const curtain = (change) => {
    inside = Math.max(0, inside + change);
    $("curtain").hidden = !inside;
  };
  addEventListener("dragenter", (event) => event.dataTransfer.types.includes("Files") && curtain(1));
  addEventListener("dragleave", (event) => event.dataTransfer.types.includes("Files") && curtain(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    curtain(0);
    const { files } = event.dataTransfer;
    if (files.length > 1) complain(`${files.length} files were dropped, and the page takes one: drop it alone.`);
    else if (files.length) takeFile(files[0]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width && contentRect.width !== width) redraw();
    width = contentRect.width;
  }).observe($("stack"));
}

async function begin() {
  listen();
  try {
    students = await (await fetch("students.json")).json();
  } catch {
    say("");
    return complain("The server does not answer: start light-sernet-kd demo again.");
  }
  showPrecisions();
  await Promise.all([showExamples(), choosePrecision(students[0])]);
}

begin();

/** For tests, and for whoever wants the numbers: the present recording, its answers, and the windows' rule. */
globalThis.demo = {
  get clip() {
    return clip && { ...clip, sound: Array.from(clip.sound), spectrogram: undefined };
  },
  get student() {
    return student?.precision;
  },
  get speaker() {
    return speaker && { mean: Array.from(speaker.mean), clips: speaker.clips };
  },
  longest,
  /** What `Save as JSON` saves, and the picture's size and type. */
  result: () => result(student, clip),
  picture: () => picture(student, clip),
  Timeline,
  fit,
  level,
  levelRangeDb,
  windows,
};
