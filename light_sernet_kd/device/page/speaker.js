// What is known of the speaker: the mean embedding of recordings, kept in this browser.

import { WITHOUT_SPEECH } from "./student.js";

const KEY = "light-sernet-kd speaker ";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A profile that was stored or served, `{mean, clips}`; null where it is none of this width. */
function checked(profile, width) {
  const mean = profile?.mean;
  const fits = Array.isArray(mean) && mean.length === width && mean.every(isNumber);
  return fits && isNumber(profile.clips) && profile.clips > 0 ? { mean, clips: profile.clips } : null;
}

/** The speaker of one student: all precisions of it share their embeddings. */
export class Speaker {
  /**
   * @param enrolled of students.json: `embedding`, which names the student, and `width`.
   * @param profile what the server was given; nothing is stored beside it.
   */
  constructor(enrolled, profile) {
    this.key = KEY + enrolled.embedding;
    this.width = enrolled.width;
    this.given = checked(profile, enrolled.width);
    this.#take(this.given ?? this.#stored());
  }

  #take(profile) {
    this.mean = Float64Array.from(profile?.mean ?? new Array(this.width).fill(0));
    this.clips = profile?.clips ?? 0;
  }

  #stored() {
    try {
      return checked(JSON.parse(localStorage.getItem(this.key)), this.width);
    } catch {
      return null; // no storage is allowed here, or what is there is no JSON
    }
  }

  /** Takes embeddings into the mean, `[{embedding, weight}]`; returns whether this browser keeps it. */
  add(heard) {
    for (const { embedding, weight } of heard) {
      this.clips += weight;
      this.mean = this.mean.map((value, k) => value + (weight / this.clips) * (embedding[k] - value));
    }
    if (this.given) return false;
    try {
      localStorage.setItem(this.key, JSON.stringify({ mean: Array.from(this.mean), clips: this.clips }));
      return true;
    } catch {
      return false;
    }
  }

  forget() {
    this.given = null;
    this.#take(null);
    try {
      localStorage.removeItem(this.key);
    } catch {
      // nothing is there either
    }
  }
}

/** What a recording's windows teach: those of speech, each with its part of a clip. A short recording is one. */
export function heardIn(student, sound, rows) {
  const weight = sound.length > student.samples ? (student.hop_seconds * student.sample_rate) / student.samples : 1;
  const shortest = student.shortest_seconds * student.sample_rate;
  return rows
    .filter(({ why, embedding, start, end }) => {
      const speech = !WITHOUT_SPEECH.includes(why);
      return speech && embedding && (end - start) * student.sample_rate >= shortest;
    })
    .map(({ embedding }) => ({ embedding, weight: Math.min(1, weight) }));
}
