// The task at one revision, and what the event of this revision changed.

import { el } from "./dom.js";
import { bytes, count, named, pretty, tone, visible } from "./format.js";

/** What is shown of a task: changes first, then the whole. */
export function taskDetail(state, change) {
  return [changes(change, state), ...whole(state)];
}

export function internalDetail(state, change) {
  const changed = change.internal ?? {};
  const rows = Object.entries(state.internal)
    .filter(([, value]) => !empty(value))
    .map(([name, value]) => el("tr", { class: name in changed ? "changed" : "" }, el("th", { scope: "row" }, name), el("td", { class: "mono" }, inline(value))));
  return [section("What the turn protocol knows", el("table", { class: "internal" }, el("tbody", {}, ...rows)))];
}

export function eventDetail(row) {
  const facts = [
    ["Kind", row.kind],
    ["Revision", count(row.revision)],
    ["Position", count(row.position)],
    ["Time", row.time],
    ["Writer", row.writer],
    ["Claim", row.epoch ? `${row.epoch}, attempt ${row.attempt ?? 0}` : "none"],
    ["Size", bytes(row.bytes)],
  ];
  const list = el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, visible(String(value), 200)))));
  let text = row.preview ?? "";
  try {
    text = pretty(JSON.parse(text));
  } catch {
    text = `${visible(text, 60_000)} …`; // it was cut: export shows all of it
  }
  return [section("Event", list, el("pre", { class: "mono json", dir: "ltr" }, text))];
}

function changes(change, state) {
  const items = [];
  if (change.status) {
    const before = change.status.before?.state;
    const after = change.status.after?.state;
    const message = change.status.after?.message;
    items.push(
      el(
        "li",
        {},
        el("span", { class: "what" }, "status"),
        before && before !== after ? [chip(before), el("span", { class: "dim" }, " → ")] : "",
        chip(after ?? "TASK_STATE_UNSPECIFIED"),
        message ? said(message) : "",
      ),
    );
  }
  for (const message of change.history ?? []) items.push(el("li", {}, el("span", { class: "what plus" }, "history added"), said(message)));
  for (const artifact of change.artifacts ?? []) {
    items.push(
      el(
        "li",
        {},
        el("span", { class: "what plus" }, `artifact ${artifact.change}`),
        el("span", { class: "mono strong" }, visible(artifact.artifactId, 120)),
        el("div", { class: "content" }, ...parts(artifact.parts ?? [])),
      ),
    );
  }
  if (change.reply) items.push(el("li", {}, el("span", { class: "what plus" }, "reply"), said(change.reply)));
  const internal = Object.entries(change.internal ?? {}).filter(([name]) => !QUIET.has(name));
  for (const [name, value] of internal.slice(0, 40)) {
    items.push(
      el(
        "li",
        { class: "quiet" },
        el("span", { class: "what" }, name),
        el("span", { class: "mono" }, inline(value.before), " → ", inline(value.after)),
      ),
    );
  }
  if (!items.length) items.push(el("li", { class: "dim" }, "Nothing that clients see, and nothing in the turn protocol but positions."));
  return section(`What revision ${count(state.revision)} changed`, el("ul", { class: "changes" }, items));
}

// They change with every event, and stand in the tab of their own.
const QUIET = new Set(["position", "revision", "time", "generation", "sign"]);

function whole(state) {
  const { task, leftOut = {}, reply } = state;
  if (!task) return [];
  const shown = [
    section(
      "Status",
      el("p", { class: "status" }, chip(task.status.state), el("span", { class: "dim" }, ` ${task.status.timestamp ?? ""}`)),
      task.status.message ? said(task.status.message) : "",
    ),
  ];
  if (reply) shown.push(section("Reply", said(reply)));
  const artifacts = task.artifacts ?? [];
  if (artifacts.length) {
    shown.push(
      section(
        artifacts.length === 1 ? "Artifact" : `Artifacts (${count(artifacts.length)})`,
        ...artifacts.slice(-20).map((artifact) => {
          const more = leftOut.artifacts?.[artifact.artifactId] ?? 0;
          const total = more + (artifact.parts ?? []).length;
          return el(
            "div",
            { class: "artifact" },
            el("p", {}, el("span", { class: "mono strong" }, visible(artifact.artifactId, 120)), artifact.name && artifact.name !== artifact.artifactId ? ` ${visible(artifact.name, 120)}` : "", el("span", { class: "dim" }, ` ${total === 1 ? "1 part" : `${count(total)} parts`}`)),
            more ? el("p", { class: "dim" }, `… ${count(more)} earlier parts`) : "",
            el("div", { class: "content" }, ...parts(artifact.parts ?? [])),
          );
        }),
      ),
    );
  }
  const history = task.history ?? [];
  if (history.length) {
    shown.push(
      section(
        `History (${count(history.length + (leftOut.history ?? 0))})`,
        leftOut.history ? el("p", { class: "dim" }, `… ${count(leftOut.history)} earlier messages`) : "",
        ...history.map((message) => said(message)),
      ),
    );
  }
  return shown;
}

function section(title, ...children) {
  return el("section", {}, el("h3", {}, title), ...children.filter((child) => child !== ""));
}

function chip(state) {
  const name = String(state).replace(/^TASK_STATE_/, "");
  return el("span", { class: `chip ${tone(name)}` }, visible(named(name), 60));
}

function said(message) {
  const who = message.role === "ROLE_USER" ? "client" : "agent";
  return el("div", { class: `said by-${who}` }, el("span", { class: "who" }, who), el("div", { class: "content" }, ...parts(message.parts ?? [])));
}

/** Parts, texts that follow each other in one block. */
function parts(list) {
  const shown = [];
  let block;
  for (const part of list) {
    if (typeof part.text === "string") {
      block ??= shown[shown.push(el("div", { class: "text", dir: "auto" })) - 1];
      block.append(el("span", { class: "part" }, visible(part.text) + (part.cutFrom ? ` … of ${count(part.cutFrom)} characters` : "")));
      continue;
    }
    block = undefined;
    shown.push(other(part));
  }
  return shown.length ? shown : [el("span", { class: "dim" }, "no parts")];
}

function other(part) {
  const type = part.mediaType ? visible(part.mediaType, 100) : "";
  const name = part.filename ? `${visible(part.filename, 200)} ` : "";
  if ("data" in part) return el("pre", { class: "mono json", dir: "ltr" }, pretty(part.data, 8000));
  if (typeof part.url === "string") return el("div", { class: "mono", dir: "ltr" }, `${name}${visible(part.url, 400)} ${type}`);
  if (typeof part.raw === "string") return el("div", { class: "dim" }, `${name}${bytes(Math.floor((part.raw.length * 3) / 4))} ${type}`);
  if (part.cutFrom) return el("div", { class: "dim" }, `a part of ${bytes(part.cutFrom)}`);
  return el("pre", { class: "mono json", dir: "ltr" }, pretty(part, 8000));
}

function inline(value) {
  return value === undefined || value === null ? "–" : visible(typeof value === "string" ? value || "–" : JSON.stringify(value), 600);
}

function empty(value) {
  return value === "" || value === null || (Array.isArray(value) && !value.length);
}
