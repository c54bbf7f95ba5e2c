// How things are written.

const LONGEST = 4000;

// Characters that nobody sees, or that change how the text around them is shown: they are written as what they are.
// Controls but tab and newline, formats (direction, joiners, tags), lone surrogates, line separators, blank letters.
const UNSEEN = /(?![\t\n\r])\p{Cc}|[\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u2800\u3164\uffa0]/gu;

function code(character) {
  const number = character.codePointAt(0).toString(16);
  return number.length > 4 ? `\\u{${number}}` : `\\u${number.padStart(4, "0")}`;
}

/** Text of anybody, cut where it is long. */
export function visible(text, longest = LONGEST) {
  const cut = text.length > longest ? `${text.slice(0, longest)} … ${count(text.length - longest)} more characters` : text;
  return cut.replace(UNSEEN, code);
}

export const count = (number) => number.toLocaleString("en-US");

export function bytes(number) {
  if (number < 1000) return `${number} B`;
  if (number < 1e6) return `${(number / 1e3).toFixed(1)} kB`;
  return `${(number / 1e6).toFixed(1)} MB`;
}

/** A time that has passed, in the two largest units. */
export function duration(milliseconds) {
  const ms = Math.max(0, milliseconds);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  const hours = Math.round(minutes / 60);
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago, coarsely: for lists. */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

/** A moment as it stands in the log: UTC. */
export const moment = (time) => time.replace("T", " ").replace("Z", "");

const TONES = { COMPLETED: "good", FAILED: "bad", REJECTED: "bad", WORKING: "busy", SUBMITTED: "busy", INPUT_REQUIRED: "waits", AUTH_REQUIRED: "waits" };

export const tone = (state) => TONES[state] ?? "calm";

export const named = (state) => state.toLowerCase().replaceAll("_", " ");

/** JSON with indents, cut where it is long. */
export const pretty = (value, longest = 60_000) => visible(JSON.stringify(value, null, 2) ?? "", longest);
