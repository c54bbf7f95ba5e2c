// The list of tasks: searched by the service, kept true by its events.

import { get, listen } from "./api.js";
import { byId, el, seldom } from "./dom.js";
import { ago, count, named, tone, visible } from "./format.js";

const PAGE = 50;
const MOST = 500; // elements; whoever wants more searches

export class TaskList {
  constructor(open, failed) {
    this.open = open;
    this.failed = failed;
    this.chosen = "";
    this.tasks = new Map();
    this.items = new Map();
    this.after = undefined;
    this.total = 0;
    this.asked = 0;
    this.list = byId("task-list");
    this.search = byId("task-search");
    this.failedOnly = byId("failed-only");
    this.more = byId("more-tasks");
    const again = seldom(150, () => this.load());
    this.search.addEventListener("input", again);
    this.failedOnly.addEventListener("change", () => this.load());
    this.more.addEventListener("click", () => this.load(true));
    this.list.addEventListener("click", (event) => {
      const link = event.target.closest("a");
      if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      this.open(link.dataset.task);
    });
    this.draw = seldom(100, () => this.render());
    this.recount = seldom(1000, () => this.counted());
    setInterval(() => this.draw(), 15_000); // what is said of how long ago grows old
  }

  get filter() {
    return { text: this.search.value.trim(), failed: this.failedOnly.checked };
  }

  async load(further = false) {
    const asked = ++this.asked;
    if (!further) this.source?.close();
    try {
      const page = await get("tasks", { ...this.filter, limit: PAGE, after: further ? this.after : undefined });
      if (asked !== this.asked) return;
      if (!further) this.tasks.clear();
      for (const task of page.tasks) this.tasks.set(task.taskId, task);
      this.after = page.after;
      this.total = page.total;
      this.render();
      if (!further) this.follow(page.mark);
      this.failed();
    } catch (problem) {
      this.failed(problem);
    }
  }

  follow(mark) {
    this.source?.close();
    let seen = mark;
    this.source = listen("tasks/events", () => ({ ...this.filter, after: seen }), {
      message: (task, id) => {
        seen = id;
        this.changed(task);
      },
      reset: () => this.load(),
      open: () => this.linked(true),
      error: () => this.linked(false),
    });
  }

  linked(up) {
    const link = byId("link");
    link.textContent = up ? "live" : "reconnecting";
    link.classList.toggle("down", !up);
  }

  changed(task) {
    if (!this.tasks.has(task.taskId)) this.recount(); // it is new, or stands further down than was shown
    this.tasks.set(task.taskId, task);
    this.draw();
  }

  async counted() {
    const asked = this.asked;
    try {
      const { total } = await get("tasks", { ...this.filter, limit: 1 });
      if (asked !== this.asked) return;
      this.total = total;
      this.render();
    } catch (problem) {
      this.failed(problem);
    }
  }

  choose(taskId) {
    this.chosen = taskId;
    this.render();
  }

  render() {
    const tasks = [...this.tasks.values()]
      .sort((a, b) => (a.updated < b.updated ? 1 : a.updated > b.updated ? -1 : a.taskId < b.taskId ? 1 : -1))
      .slice(0, MOST);
    const now = Date.now();
    const kept = new Map();
    tasks.forEach((task, place) => {
      const item = this.items.get(task.taskId) ?? itemOf(task);
      show(item, task, task.taskId === this.chosen, now);
      kept.set(task.taskId, item);
      if (this.list.children[place] !== item) this.list.insertBefore(item, this.list.children[place] ?? null);
    });
    while (this.list.children.length > tasks.length) this.list.lastElementChild.remove();
    this.items = kept;
    byId("task-count").textContent = this.total === 1 ? "1 task" : `${count(this.total)} tasks`;
    this.more.hidden = !this.after || tasks.length >= MOST;
  }
}

function itemOf(task) {
  const link = el(
    "a",
    { href: `/tasks/${encodeURIComponent(task.taskId)}`, "data-task": task.taskId },
    el("span", { class: "dot" }),
    el("span", { class: "task-name mono" }),
    el("span", { class: "task-ago dim" }),
    el("span", { class: "task-more dim" }),
  );
  return el("li", {}, link);
}

function show(item, task, chosen, now) {
  const link = item.firstElementChild;
  const [dot, name, when, more] = link.children;
  if (chosen) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  write(name, task.taskId.replace(/^t1-/, ""));
  write(when, ago(task.updated, now));
  dot.className = `dot ${tone(task.state)}`;
  const owner = task.owner && task.owner !== "anonymous" ? ` · ${visible(task.owner, 60)}` : "";
  write(more, `${named(task.state)} · ${visible(task.agent, 60)} · ${count(task.revision)} events${owner}`);
  link.classList.toggle("failed", task.failed);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
