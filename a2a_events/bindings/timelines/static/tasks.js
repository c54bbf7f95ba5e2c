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
    setInterval(() => this.draw(), 15_000); // what is said of how long ago grows old
  }

  get filter() {
    return { text: this.search.value.trim(), failed: this.failedOnly.checked };
  }

  async load(further = false) {
    const asked = ++this.asked;
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
    this.source = listen("tasks/events", { after: mark }, {
      message: (task) => this.changed(task),
      reset: () => this.load(),
      open: () => this.linked(true),
      error: (closed) => {
        this.linked(false);
        if (closed) setTimeout(() => this.load(), 2000);
      },
    });
  }

  linked(up) {
    const link = byId("link");
    link.textContent = up ? "live" : "reconnecting";
    link.classList.toggle("down", !up);
  }

  changed(task) {
    const known = this.tasks.has(task.taskId);
    if (this.matches(task)) {
      if (!known) this.total += 1;
      this.tasks.set(task.taskId, task);
    } else if (known) {
      this.tasks.delete(task.taskId);
      this.total -= 1;
    }
    this.draw();
  }

  matches(task) {
    const { text, failed } = this.filter;
    const said = `${task.taskId} ${task.contextId} ${task.owner}`.toLowerCase();
    return (!failed || task.failed) && said.includes(text.toLowerCase());
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
