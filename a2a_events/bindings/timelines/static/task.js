// One task: its header, its picture, its events, and itself at the revision that is looked at.

import { get, href, listen, ofTask, post } from "./api.js";
import { eventDetail, internalDetail, taskDetail } from "./detail.js";
import { byId, el, latest, seldom } from "./dom.js";
import { count, duration, moment, named, tone, visible } from "./format.js";
import { Lanes } from "./lanes.js";
import { RowList } from "./rows.js";

const KINDS = [
  "submitted", "messageReceived", "cancelRequested", "turnClaimed", "turnReleased", "turnSuspended", "turnNudged", "turnConfirmed", "turnEnded",
  "step", "timer", "statusUpdate", "artifactUpdate", "message", "messageUnread", "pushConfigSet", "pushConfigDeleted", "deadLetter", "taskDeadLettered", "forked",
];
const EVENT_CHARACTERS = 60_000;
const WHY_MILLISECONDS = 10_000;

export class TaskView {
  constructor({ failed, open, forks }) {
    this.failed = failed;
    this.open = open;
    this.forks = forks;
    this.id = "";
    this.revision = 0;
    this.newest = 0;
    this.following = false;
    this.fresh = 0;
    this.view = "compact";
    this.tab = "task";
    this.kinds = new Set();
    this.lanes = new Lanes(byId("lanes"), (revision) => this.choose(revision));
    this.rows = new RowList(byId("rows"), {
      fetch: (params) => get(ofTask(this.id, "/rows"), { ...this.filter(), ...params }),
      select: (revision) => this.choose(revision, true),
      failed,
    });
    this.rows.changed = (page) => {
      byId("event-count").textContent = `${count(page.total)} ${page.total === 1 ? "row" : "rows"}`;
      const digits = count(page.revisions).length;
      byId("rows").style.setProperty("--revision-width", `${this.view === "compact" ? 2 * digits + 1 : digits}ch`);
    };
    this.look = latest((id, revision) => this.fetched(id, revision));
    this.refresh = seldom(700, () => this.summarize());
    this.grow = seldom(200, () => this.grown());
    this.controls();
  }

  controls() {
    const on = (id, name, call) => byId(id).addEventListener(name, call);
    on("first", "click", () => this.choose(1));
    on("last", "click", () => this.choose(this.newest));
    on("before", "click", () => this.step(-1));
    on("after", "click", () => this.step(1));
    on("range", "input", () => this.choose(Number(byId("range").value)));
    on("follow", "click", () => this.follow(!this.following));
    on("event-search", "input", seldom(200, () => this.filtered()));
    on("attempt", "change", () => this.filtered());
    on("fork", "click", () => this.askFork());
    on("fork-cancel", "click", () => byId("fork-dialog").close());
    on("fork-go", "click", () => this.fork());
    this.choice("view", (view) => {
      this.view = view;
      this.filtered();
    });
    this.choice("tab", (tab) => {
      this.tab = tab;
      this.detailed();
    });
    for (const kind of KINDS) {
      const box = el("input", { type: "checkbox", value: kind });
      box.addEventListener("change", () => {
        if (box.checked) this.kinds.add(kind);
        else this.kinds.delete(kind);
        byId("kinds").firstElementChild.textContent = this.kinds.size ? `Kinds (${this.kinds.size})` : "Kinds";
        this.filtered();
      });
      byId("kind-list").append(el("label", {}, box, ` ${kind}`));
    }
    document.addEventListener("click", (event) => {
      if (!event.target.closest("#kinds")) byId("kinds").open = false;
    });
  }

  choice(name, chosen) {
    const buttons = [...document.querySelectorAll(`[data-${name}]`)];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
        chosen(button.dataset[name]);
      });
    }
  }

  filter() {
    return {
      compact: this.view === "compact",
      content: this.view === "raw" ? 400 : 0,
      text: byId("event-search").value.trim(),
      kind: [...this.kinds].join(","),
      attempt: byId("attempt").value,
    };
  }

  /** Show a task, at a revision or at its end. */
  async show(id, revision) {
    this.source?.close();
    Object.assign(this, { id, revision: 0, newest: 0, fresh: 0, where: "", state: undefined, change: undefined, event: undefined });
    this.following = false;
    this.rows.reset();
    this.lanes.time = undefined;
    byId("nothing").hidden = true;
    byId("why").textContent = "";
    let summary;
    try {
      summary = await get(ofTask(id));
    } catch (problem) {
      if (id === this.id) this.leave(problem.status === 404 ? "There is no such task here." : visible(problem.message, 600));
      return;
    }
    if (id !== this.id) return;
    byId("chosen").hidden = false;
    this.head(summary);
    this.newest = summary.revisions;
    this.following = !summary.ended && !revision;
    byId("attempt").value = "";
    const at = Math.min(Math.max(1, revision || this.newest), this.newest);
    if (revision && revision > this.newest) this.failed(new Error(`The task has no revision ${revision} yet: this is its newest.`));
    else this.failed();
    this.select(at);
    this.listen();
  }

  /** No task is shown any more. */
  leave(why) {
    this.source?.close();
    Object.assign(this, { id: "", newest: 0, following: false });
    document.title = "Timelines";
    byId("chosen").hidden = true;
    byId("nothing").hidden = false;
    byId("nothing").replaceChildren(el("p", {}, why || "Choose a task to see what happened to it."));
  }

  listen() {
    const id = this.id;
    this.source = listen(ofTask(id, "/events"), () => ({ after: this.newest, content: 0 }), {
      message: (row) => this.happened(id, row),
      end: () => {
        this.source?.close();
        if (this.following && this.revision < this.newest) this.select(this.newest);
        this.follow(false);
        this.refresh();
      },
      problem: (problem) => this.failed(new Error(problem.detail)),
    });
  }

  happened(id, row) {
    if (id !== this.id || row.revision <= this.newest) return;
    this.newest = row.revision;
    if (!this.following) this.fresh += 1;
    this.grow();
  }

  async grown() {
    const id = this.id;
    if (!id) return;
    this.scrubber();
    await this.rows.grown();
    if (id !== this.id) return;
    if (this.following && this.revision < this.newest) this.select(this.newest);
    this.refresh();
  }

  async summarize() {
    const id = this.id;
    if (!id) return;
    try {
      const summary = await get(ofTask(id));
      if (id === this.id) this.head(summary);
    } catch (problem) {
      if (id === this.id) this.failed(problem);
    }
  }

  head(summary) {
    this.summary = summary;
    this.ended = summary.ended;
    const state = byId("state");
    state.textContent = named(summary.state);
    state.className = `chip ${tone(summary.state)}`;
    byId("task-id").textContent = this.id;
    document.title = `${named(summary.state)} · ${this.id}`;
    this.rows.began = Date.parse(summary.began);
    const facts = [
      ["Agent", summary.agent],
      ["Owner", summary.owner],
      ["Context", summary.contextId],
      ["Began", moment(summary.began)],
      ["Took", duration(Date.parse(summary.latest) - Date.parse(summary.began))],
      ["Events", count(summary.revisions)],
      ["Attempts", count(summary.attempts)],
      ["Claims", count(summary.claims)],
    ];
    if (summary.tenant !== "-") facts.push(["Tenant", summary.tenant]);
    const list = facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", { title: visible(value, 600) }, visible(value, 80))));
    if (summary.origin?.taskId) {
      const { taskId, revision } = summary.origin;
      list.push(el("div", {}, el("dt", {}, "Forked from"), el("dd", {}, el("a", { class: "mono", href: `/tasks/${encodeURIComponent(taskId)}@${revision}` }, `${taskId}@${revision}`))));
    }
    byId("facts").replaceChildren(...list);
    for (const [name, redact] of [["export", ""], ["export-redacted", "content"]]) byId(name).href = href(ofTask(this.id, "/bundle"), { redact });
    this.attempts(summary.attempts);
    this.lanes.show(summary);
    this.scrubber();
    void this.whyOf(summary);
  }

  attempts(most) {
    const select = byId("attempt");
    while (select.options.length - 1 > most) select.remove(select.options.length - 1);
    for (let one = select.options.length; one <= most && one <= 20; one += 1) select.append(el("option", { value: one }, String(one)));
  }

  async whyOf(summary) {
    const id = this.id;
    const where = `${id} ${summary.state} ${summary.phase}`;
    // The question costs the broker some requests: not with every event of a task that runs.
    if (this.where === where && Date.now() - this.asked < WHY_MILLISECONDS) return;
    Object.assign(this, { where, asked: Date.now() });
    if (summary.ended && !summary.failed) {
      byId("why").textContent = "";
      return;
    }
    try {
      const why = await get(ofTask(id, "/why"));
      if (where === this.where) byId("why").textContent = visible([why.why, why.advice].filter(Boolean).join(" "), 900);
    } catch {
      if (where === this.where) byId("why").textContent = ""; // the timeline says it all the same
    }
  }

  /** Somebody wants to see this revision. */
  choose(revision, ofRow = false) {
    if (!this.newest) return;
    if (revision < this.newest) this.follow(false);
    this.select(Math.min(Math.max(1, revision), this.newest), ofRow);
  }

  select(revision, ofRow = false) {
    this.revision = revision;
    if (revision === this.newest) this.fresh = 0;
    this.scrubber();
    history.replaceState(null, "", `/tasks/${encodeURIComponent(this.id)}@${revision}`);
    if (ofRow) {
      this.rows.revision = revision;
      this.rows.draw();
      this.rows.scrollTo(this.rows.index);
    } else void this.rows.reveal(revision);
    void this.look(this.id, revision);
  }

  step(by) {
    this.choose(this.revision + by);
  }

  follow(on) {
    this.following = on && !this.ended;
    if (this.following) this.select(this.newest);
    this.scrubber();
  }

  scrubber() {
    const range = byId("range");
    range.max = String(this.newest);
    range.value = String(this.revision);
    range.setAttribute("aria-valuetext", `revision ${this.revision} of ${this.newest}`);
    byId("place").textContent = `${count(this.revision)} / ${count(this.newest)}`;
    const follow = byId("follow");
    follow.setAttribute("aria-pressed", String(this.following));
    follow.disabled = Boolean(this.ended);
    const badge = byId("new");
    badge.hidden = !this.fresh;
    badge.textContent = `${count(this.fresh)} new`;
    byId("fork").disabled = !this.forks() || (this.ended && this.revision === this.newest);
  }

  async fetched(id, revision) {
    if (id !== this.id) return;
    try {
      const [state, change, page] = await Promise.all([
        get(ofTask(id, `/at/${revision}`), { newest: 30 }),
        get(ofTask(id, "/difference"), { from: revision - 1, to: revision, brief: true }),
        get(ofTask(id, "/rows"), { from: revision, to: revision, content: EVENT_CHARACTERS }),
      ]);
      if (id !== this.id) return;
      Object.assign(this, { state, change, event: page.rows[0] });
      this.lanes.cursor(Date.parse(state.time));
      this.detailed();
    } catch (problem) {
      if (id === this.id) this.failed(problem);
    }
  }

  detailed() {
    if (!this.state) return;
    const { state, change, event } = this;
    const shown = { task: () => taskDetail(state, change), event: () => eventDetail(event), internal: () => internalDetail(state, change) }[this.tab]();
    const box = byId("detail");
    box.replaceChildren(...shown);
    box.dataset.revision = String(state.revision);
    byId("detail-place").textContent = `at ${count(state.revision)} · ${state.time.slice(11, 23)}`;
  }

  filtered() {
    if (!this.id) return;
    this.rows.reset();
    void this.rows.load(0);
    void this.rows.reveal(this.revision);
  }

  askFork() {
    byId("fork-text").textContent =
      `A new task begins with the state of revision ${count(this.revision)} and goes on from there, with the same agent. This task is not changed.`;
    byId("fork-dialog").showModal();
  }

  async fork() {
    byId("fork-dialog").close();
    try {
      const { taskId } = await post(ofTask(this.id, "/fork"), { revision: this.revision });
      this.open(taskId);
    } catch (problem) {
      this.failed(problem);
    }
  }
}
