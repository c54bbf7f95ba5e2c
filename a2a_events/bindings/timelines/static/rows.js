// The list of events. Only the rows in sight are elements; what is not known yet is fetched by pages.

import { el } from "./dom.js";
import { bytes, count, duration, visible } from "./format.js";

export const ROW = 26; // pixels; as in page.css
const PAGE = 100;
const PAGES = 24; // kept
const MARGIN = 6; // rows above and below what is in sight

export class RowList {
  constructor(box, { fetch, select, failed }) {
    this.box = box;
    this.fetch = fetch;
    this.select = select;
    this.failed = failed;
    this.room = el("div", { class: "room" });
    box.append(this.room);
    this.elements = new Map();
    this.reset();
    let frame = 0;
    const soon = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        this.draw();
      });
    };
    box.addEventListener("scroll", soon, { passive: true });
    new ResizeObserver(() => {
      if (this.inSight) this.scrollTo(this.index); // what stands above the list may have grown
      soon();
    }).observe(box);
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-index]");
      if (row) this.take(Number(row.dataset.index));
    });
  }

  /** Another list: forget the one before. */
  reset() {
    this.life = (this.life ?? 0) + 1;
    this.pages = new Map();
    this.under = new Map();
    this.total = 0;
    this.index = -1;
    this.revision = 0;
    for (const element of this.elements.values()) element.remove();
    this.elements.clear();
    this.room.style.height = "0";
    this.box.scrollTop = 0;
  }

  /** More has happened: what stands at the end may have changed. */
  async grown() {
    const from = Math.floor(Math.max(0, this.total - 1) / PAGE);
    for (const page of [...this.pages.keys()]) if (page > from) this.pages.delete(page);
    await this.load(from, true);
  }

  row(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  async load(page, again = false) {
    if (!again && (this.pages.has(page) || this.under.has(page))) return this.under.get(page);
    const life = this.life;
    const work = (async () => {
      try {
        const got = await this.fetch({ offset: page * PAGE, limit: PAGE });
        if (life !== this.life) return;
        this.pages.delete(page);
        this.pages.set(page, got.rows);
        this.total = got.total;
        while (this.pages.size > PAGES) this.pages.delete(this.pages.keys().next().value);
        this.changed?.(got);
        this.draw();
      } catch (problem) {
        if (life === this.life) this.failed(problem);
      } finally {
        if (life === this.life) this.under.delete(page);
      }
    })();
    this.under.set(page, work);
    return work;
  }

  /** Show the row that holds a revision, or the last one before it, as the chosen one. */
  async reveal(revision) {
    this.revision = revision;
    const life = this.life;
    let index = this.known(revision);
    if (index === undefined) {
      try {
        const got = await this.fetch({ around: revision, limit: 1 });
        if (life !== this.life || revision !== this.revision) return;
        this.total = got.total;
        this.changed?.(got);
        index = got.index;
      } catch (problem) {
        if (life === this.life) this.failed(problem);
        return;
      }
    }
    this.index = index;
    this.scrollTo(index);
    this.draw();
  }

  known(revision) {
    for (const [page, rows] of this.pages) {
      const first = rows[0];
      const last = rows[rows.length - 1];
      if (!first || revision < first.revision) continue;
      const end = page * PAGE + rows.length === this.total ? Infinity : (last.last_revision ?? last.revision);
      if (revision > end) continue;
      let at = rows.length - 1;
      while (rows[at].revision > revision) at -= 1;
      return page * PAGE + at;
    }
    return undefined;
  }

  scrollTo(index) {
    const top = Math.max(0, index) * ROW;
    const { scrollTop, clientHeight } = this.box;
    this.room.style.height = `${this.total * ROW}px`;
    if (top < scrollTop) this.box.scrollTop = Math.max(0, top - ROW);
    else if (top + 2 * ROW > scrollTop + clientHeight) this.box.scrollTop = top + 2 * ROW - clientHeight;
  }

  /** Choose the row that is so many further. */
  step(by) {
    if (!this.total) return;
    this.take(Math.min(this.total - 1, Math.max(0, this.index + by)));
  }

  async take(index) {
    await this.load(Math.floor(index / PAGE));
    const row = this.row(index);
    if (!row) return;
    this.index = index;
    this.select(row.revision);
  }

  draw() {
    const height = this.box.clientHeight;
    this.room.style.height = `${this.total * ROW}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - MARGIN);
    const end = Math.min(this.total, Math.ceil((this.box.scrollTop + height) / ROW) + MARGIN);
    for (const [index, element] of this.elements) {
      if (index < first || index >= end) {
        element.remove();
        this.elements.delete(index);
      }
    }
    for (let index = first; index < end; index += 1) {
      const row = this.row(index);
      if (!row) void this.load(Math.floor(index / PAGE));
      this.place(index, row);
    }
    const middle = (this.index + 0.5) * ROW; // places are rounded to pixels
    this.inSight = this.index >= 0 && middle > this.box.scrollTop && middle < this.box.scrollTop + height;
    const active = this.elements.get(this.index);
    if (active) this.box.setAttribute("aria-activedescendant", active.id);
    else this.box.removeAttribute("aria-activedescendant");
  }

  place(index, row) {
    let element = this.elements.get(index);
    if (!element) {
      element = el("div", { class: "row", role: "option", id: `row-${index}`, "data-index": index, "aria-posinset": index + 1 });
      element.style.transform = `translateY(${index * ROW}px)`;
      this.elements.set(index, element);
      this.room.append(element);
    }
    element.setAttribute("aria-setsize", this.total);
    element.setAttribute("aria-selected", String(index === this.index));
    if (element.shown === row && row) return;
    element.shown = row;
    element.replaceChildren(...(row ? this.cells(row) : [el("span", { class: "row-wait" }, "…")]));
    element.classList.toggle("bad", Boolean(row) && failure(row));
  }

  cells(row) {
    const run = row.count > 1 && row.last_revision;
    const text = run ? runText(row) : visible(row.preview ? inner(row.preview) : row.summary, 400);
    const offset = this.began ? `+${duration(Date.parse(row.time) - this.began)}` : "";
    return [
      el("span", { class: "row-revision" }, run ? `${count(row.revision)}–${count(row.last_revision)}` : count(row.revision)),
      el("span", { class: "row-time dim", title: row.time }, offset),
      el("span", { class: `row-kind ${lane(row.kind)}` }, visible(row.kind, 60)),
      el("span", { class: "row-who dim", title: visible(row.writer, 120) }, row.epoch ? `${row.epoch}.${row.attempt ?? 0}` : ""),
      el("span", { class: `row-text${row.preview ? " mono" : ""}`, dir: "ltr", title: text }, text),
    ];
  }
}

/** An event's JSON without what every event of the task has. */
function inner(json) {
  return json.replace(/^\{"\w+":\{("taskId":"[\w-]*",)?("contextId":"[^"]*",)?/, "{");
}

function runText(run) {
  return `${visible(run.artifact, 80)}: ${count(run.count)} chunks, ${bytes(run.bytes)}, ${duration(run.seconds * 1000)}`;
}

const FAILURES = new Set(["taskDeadLettered", "deadLetter", "messageUnread"]);

function failure(row) {
  return FAILURES.has(row.kind) || row.state === "FAILED" || row.state === "REJECTED";
}

const CLIENT = new Set(["submitted", "messageReceived", "cancelRequested"]);
const OUTPUT = new Set(["statusUpdate", "artifactUpdate", "message", "forked"]);
const DELIVERIES = new Set(["pushConfigSet", "pushConfigDeleted", "deadLetter", "deliveryAttempt", "taskDeadLettered", "messageUnread"]);

/** The lane that a kind stands in, for its colour. */
export function lane(kind) {
  if (CLIENT.has(kind)) return "of-client";
  if (OUTPUT.has(kind)) return "of-output";
  return DELIVERIES.has(kind) ? "of-deliveries" : "of-attempt";
}
