// The page: where it stands, which task is open, and the keys.

import { get } from "./api.js";
import { byId } from "./dom.js";
import { visible } from "./format.js";
import { TaskView } from "./task.js";
import { TaskList } from "./tasks.js";
import { begin as beginTheme } from "./theme.js";

beginTheme();

let about = { forks: false };

function failed(problem) {
  const alert = byId("alert");
  alert.hidden = !problem;
  alert.textContent = problem ? visible(problem.message, 600) : "";
}

function open(taskId, revision) {
  history.pushState(null, "", `/tasks/${encodeURIComponent(taskId)}${revision ? `@${revision}` : ""}`);
  there();
}

/** Show what the address says. */
function there() {
  // An id is made of these characters only, so nothing in it is encoded.
  const found = /^\/tasks\/([\w-]+)(?:@(\d{1,15}))?$/.exec(location.pathname);
  document.body.classList.toggle("with-task", Boolean(found));
  list.choose(found ? found[1] : "");
  if (found) void view.show(found[1], found[2] ? Number(found[2]) : 0);
  else view.leave(location.pathname === "/" ? "" : "This address names no task.");
}

const view = new TaskView({ failed, open, forks: () => about.forks });
const list = new TaskList(open, failed);

const KEYS = {
  ArrowLeft: (event) => view.step(event.shiftKey ? -10 : -1),
  ArrowRight: (event) => view.step(event.shiftKey ? 10 : 1),
  Home: () => view.choose(1),
  End: () => view.choose(view.newest),
  j: () => view.rows.step(1),
  k: () => view.rows.step(-1),
  ArrowDown: () => view.rows.step(1),
  ArrowUp: () => view.rows.step(-1),
  f: () => view.follow(!view.following),
  "/": () => byId("event-search").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (event.key === "?") byId("help").showModal();
  else if (event.key === "t") {
    document.body.classList.remove("with-task");
    byId("task-search").focus();
  } else if (/^Arrow(Up|Down)$/.test(event.key) && event.target.id !== "rows") return; // they scroll
  else if (event.key in KEYS && view.newest) KEYS[event.key](event);
  else return;
  event.preventDefault();
});

byId("help-button").addEventListener("click", () => byId("help").showModal());
byId("show-tasks").addEventListener("click", () => document.body.classList.remove("with-task"));
window.addEventListener("popstate", there);

void list.load();
there();
try {
  about = await get("about");
  byId("about").textContent = visible(about.name, 200);
  byId("about").title = `a2a-events ${about.version}`;
  if (view.newest) view.scrubber();
} catch (problem) {
  failed(problem);
}
