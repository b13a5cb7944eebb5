// What the page says of numbers, in words.

import { NOT_SURE, SILENT, STEADY, TOO_SHORT } from "./student.js";

/** A share from 0 to 1 in per cent; the number and its sign stay on one line. */
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;

/** How probable that is, in words. */
export function likelihood(share) {
  if (share >= 0.95) return "almost certain";
  if (share >= 0.8) return "very likely";
  if (share >= 0.6) return "likely";
  return share >= 0.5 ? "more likely than not" : "the likeliest";
}

/** Why there is no answer, as one sentence or two. */
export function doubt(student, { why, shares, shown }) {
  const leader = student.labels[shown];
  const least = percent(student.unsure_below, 0);
  return {
    [SILENT]: `This is silence. There is nothing to ${student.labels.length ? "classify" : "rate"}.`,
    [STEADY]: "The sound is as steady as noise. No speech was found in it.",
    [TOO_SHORT]: `It is shorter than ${student.shortest_seconds} s, which is too little.`,
    [NOT_SURE]: `No emotion reaches ${least}. Most likely is ${leader} with ${percent(shares[shown])}.`,
  }[why];
}

/** A label, or that there is doubt with its reason. */
export const named = (row) => row.label ?? `unsure (${row.why})`;

/** The classes after the first, with what they have, as far as that is worth a word. */
export function others(student, { shares, shown }) {
  const ranked = student.labels
    .map((label, k) => ({ label, share: shares[k], k }))
    .filter(({ k, share }) => k !== shown && share >= 0.05)
    .sort((a, b) => b.share - a.share)
    .slice(0, 2);
  if (!ranked.length) return "No other emotion has 5\u00a0%.";
  return `Next: ${ranked.map(({ label, share }) => `${label} ${percent(share)}`).join(", ")}.`;
}

/** Shares of the time, the longest first. */
export function times({ time_shares, unsure_shares }) {
  const doubts = Object.entries(unsure_shares).map(([why, share]) => [`unsure (${why})`, share]);
  return [...Object.entries(time_shares), ...doubts]
    .filter(([, share]) => share > 0)
    .sort((a, b) => b[1] - a[1])
    .map(([name, share]) => `${name} ${percent(share, 0)}`)
    .join(", ");
}

/** What a microphone's level means for whoever speaks. */
export function loudness({ level, peak }) {
  if (peak > -0.5) return "too loud";
  if (level < -55) return "very quiet";
  return level < -42 ? "quiet" : "good";
}
