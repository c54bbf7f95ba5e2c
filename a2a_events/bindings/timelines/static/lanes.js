// The picture of a timeline: a few paths, however long it is.

import { el, svg } from "./dom.js";
import { count, duration } from "./format.js";

const LABEL = 104;
const LANE = 24;
const AXIS = 20;
const LABELS = { client: "Client", output: "Agent output", deliveries: "Deliveries" };

export class Lanes {
  constructor(box, select) {
    this.box = box;
    this.select = select;
    this.hint = el("div", { class: "lanes-hint dim" });
    this.summary = undefined;
    new ResizeObserver(() => this.draw()).observe(box);
    box.addEventListener("click", (event) => {
      const near = this.nearest(event);
      if (near) this.select(near.revision);
    });
    box.addEventListener("pointermove", (event) => this.tell(this.nearest(event)));
    box.addEventListener("pointerleave", () => this.tell());
  }

  show(summary) {
    this.summary = summary;
    this.began = summary.axis[0]?.firstTime ?? 0;
    this.box.setAttribute("aria-label", describe(summary));
    this.draw();
  }

  /** Where a moment stands, in pixels. */
  x(time) {
    const busy = this.summary.axis.filter((stretch) => !stretch.silent);
    let stretch = busy[0];
    for (const one of busy) if (one.firstTime <= time) stretch = one;
    const span = stretch.lastTime - stretch.firstTime;
    const share = span ? Math.min(1, Math.max(0, (time - stretch.firstTime) / span)) : 0.5;
    return this.at(stretch.begin + (stretch.end - stretch.begin) * share);
  }

  at(place) {
    return LABEL + 6 + place * Math.max(0, this.width - LABEL - 12);
  }

  cursor(time) {
    this.time = time;
    if (!this.line || time === undefined) return;
    const x = this.x(time);
    this.line.setAttribute("d", `M${x} 0V${this.height - AXIS}`);
  }

  draw() {
    if (!this.summary) return;
    const { axis, lanes } = this.summary;
    this.width = Math.max(240, this.box.clientWidth);
    this.height = lanes.length * LANE + AXIS;
    const picture = svg("svg", { width: this.width, height: this.height, viewBox: `0 0 ${this.width} ${this.height}`, "aria-hidden": "true" });
    picture.append(
      svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("path", { d: "M0 0V6", class: "hatch" }))),
    );
    lanes.forEach((one, number) => {
      const y = number * LANE;
      picture.append(svg("path", { d: `M${LABEL} ${y + LANE - 0.5}H${this.width}`, class: "lane-line" }));
      picture.append(svg("text", { x: 8, y: y + 16, class: "lane-label" }, LABELS[one.id] ?? `Attempt ${one.attempt ?? 1}`));
    });
    for (const stretch of axis) this.stretch(picture, stretch);
    lanes.forEach((one, number) => this.lane(picture, one, number * LANE));
    this.line = svg("path", { class: "cursor", d: "" });
    picture.append(this.line);
    this.box.replaceChildren(picture, this.hint);
    this.cursor(this.time);
  }

  stretch(picture, stretch) {
    const begin = this.at(stretch.begin);
    const end = this.at(stretch.end);
    const bottom = this.height - 6;
    if (stretch.silent) {
      picture.append(svg("rect", { x: begin, y: 0, width: Math.max(1, end - begin), height: this.height - AXIS, class: "silence" }));
      picture.append(svg("text", { x: (begin + end) / 2, y: bottom, class: "axis silent", "text-anchor": "middle" }, duration(stretch.lastTime - stretch.firstTime)));
      return;
    }
    const last = this.summary.axis.at(-1) === stretch;
    if (stretch.begin === 0) picture.append(svg("text", { x: begin, y: bottom, class: "axis" }, "0"));
    else if (end - begin > (last ? 150 : 75)) picture.append(svg("text", { x: begin + 4, y: bottom, class: "axis" }, `+${duration(stretch.firstTime - this.began)}`));
    if (last && end - begin > 60) {
      picture.append(svg("text", { x: end, y: bottom, class: "axis", "text-anchor": "end" }, `+${duration(stretch.lastTime - this.began)}`));
    }
    if (last && stretch.begin === 0 && stretch.lastTime > stretch.firstTime && end - begin > 300) {
      for (const share of [0.25, 0.5, 0.75]) {
        const x = begin + (end - begin) * share;
        picture.append(svg("path", { d: `M${x} 0V${this.height - AXIS}`, class: "tick" }));
        picture.append(svg("text", { x, y: bottom, class: "axis", "text-anchor": "middle" }, `+${duration((stretch.lastTime - stretch.firstTime) * share)}`));
      }
    }
  }

  lane(picture, one, y) {
    const bars = { good: "", bad: "", open: "" };
    for (const bar of one.bars ?? []) {
      const begin = this.at(bar.begin);
      const end = Math.max(begin + 3, this.at(bar.end));
      const kind = bar.failed ? "bad" : (bar.outcome ?? "open") === "open" ? "open" : "good";
      bars[kind] += `M${begin} ${y + 5}H${end}V${y + LANE - 6}H${begin}Z`;
    }
    for (const [kind, d] of Object.entries(bars)) if (d) picture.append(svg("path", { d, class: `bars ${kind}` }));
    const ok = [];
    const bad = [];
    for (const mark of one.marks ?? []) {
      const many = Math.min(1, 0.45 + 0.16 * Math.log10(mark.count ?? 1));
      const half = ((LANE - 8) / 2) * many;
      const x = this.at(mark.at).toFixed(1);
      (mark.failed ? bad : ok).push(`M${x} ${(y + LANE / 2 - half - 0.5).toFixed(1)}V${(y + LANE / 2 + half - 0.5).toFixed(1)}`);
    }
    const kind = LABELS[one.id] ? one.id : "attempt";
    if (ok.length) picture.append(svg("path", { d: ok.join(""), class: `marks of-${kind}` }));
    if (bad.length) picture.append(svg("path", { d: bad.join(""), class: "marks bad" }));
  }

  nearest(event) {
    if (!this.summary) return undefined;
    const frame = this.box.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const lane = this.summary.lanes[Math.floor((event.clientY - frame.top) / LANE)];
    const marks = lane ? (lane.marks ?? []) : this.summary.lanes.flatMap((one) => one.marks ?? []);
    let best;
    for (const mark of marks) {
      const far = Math.abs(this.at(mark.at) - x);
      if (!best || far < best.far) best = { ...mark, far };
    }
    return best && (best.far < 24 || !lane) ? best : undefined;
  }

  tell(mark) {
    if (!mark) {
      this.hint.textContent = "";
      return;
    }
    const many = (mark.count ?? 1) > 1;
    this.hint.textContent = many
      ? `${mark.kind} and ${count(mark.count - 1)} more, revisions ${count(mark.revision)} to ${count(mark.lastRevision)}`
      : `${mark.kind}, revision ${count(mark.revision)}`;
  }
}

function describe(summary) {
  const span = summary.axis.length ? duration(summary.axis.at(-1).lastTime - summary.axis[0].firstTime) : "no time";
  const silent = summary.axis.filter((stretch) => stretch.silent).length;
  const lanes = summary.lanes.map((one) => LABELS[one.id] ?? `attempt ${one.attempt ?? 1}`).join(", ");
  return `${count(summary.revisions)} events in ${span}${silent ? `, with ${silent} long silences` : ""}. Lanes: ${lanes}.`;
}
