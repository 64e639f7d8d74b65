// One watch on the overview.

import { describeBands, drawBands, fitCanvas, timeline } from "./bands.js";
import { make, Ring, say } from "./element.js";
import { colourOf, iconOf, resolved } from "./palette.js";
import { Tape } from "./tape.js";
import { ago, duration, percent, spoken } from "./words.js";

export const SEEN_MS = 8000;
const LATE_MS = 3000;
let numbers = 0;

export class Card {
  constructor(watch, state) {
    this.watch = watch;
    this.state = state;
    const id = `card-${++numbers}`;
    this.ring = new Ring(make("span", { class: "ring" }));
    this.activity = make("h2", { class: "card-activity" });
    this.name = make("p", { class: "card-name" }, watch.name);
    this.heardText = make("span");
    this.heard = make("p", { class: "heard" }, make("span", { class: "dot", "aria-hidden": "true" }), this.heardText);
    this.lanes = make("div", { class: "lanes", "aria-hidden": "true" });
    this.bands = make("canvas", { class: "bands", "aria-hidden": "true" });
    this.why = make("span", { class: "why" });
    this.numbers = make("span", { class: "numbers" });
    this.description = make("span", { class: "hidden", id });
    this.link = make(
      "a",
      { class: "card", href: `#/watch/${encodeURIComponent(watch.name)}`, "aria-describedby": id },
      make("div", { class: "card-top" }, this.ring.place, make("div", { class: "card-text" }, this.activity, this.name), this.heard),
      this.lanes,
      this.bands,
      make("div", { class: "card-foot" }, this.why, this.numbers),
    );
    this.element = make("li", {}, this.link, this.description);
    this.element.card = this;
    for (const sensor of ["acc", "gyro"]) this.lanes.append(make("span", { class: `lane-name ${sensor}` }, sensor));
    this.tape = new Tape(
      this.lanes,
      { acc: { readings: watch.acc, share: 0.58, least: 6 }, gyro: { readings: watch.gyro, share: 0.42, least: 2 } },
      SEEN_MS,
      1.5,
    );
    this.visible = false;
  }

  restyle() {
    this.tape.restyle();
    this.shown = null;
    this.update();
    if (this.visible) this.appear();
  }

  /** Comes into sight. */
  appear() {
    this.visible = true;
    this.tape.resize();
    this.tape.redraw();
    this.drawBands();
  }

  gained(sensor, from) {
    if (this.visible) this.tape.extend(sensor, from);
  }

  update() {
    const { row } = this.watch;
    if (!row) return;
    const label = row.activity < 0 ? null : this.state.labels[row.activity];
    if (label !== this.shown) {
      this.shown = label;
      this.link.style.setProperty("--activity", colourOf(label));
      say(this.activity, row.silent ? "Silent" : spoken(label));
    }
    const quiet = this.state.now() - row.heard;
    say(this.activity, row.silent ? "Silent" : spoken(label));
    this.link.classList.toggle("silent", Boolean(row.silent));
    this.ring.show(label === null ? 0 : row.confidence, row.silent ? "silent" : iconOf(label));
    this.heard.dataset.state = row.silent ? "silent" : quiet > LATE_MS ? "late" : "live";
    say(this.heardText, ago(quiet));
    say(this.why, this.#remark(row, label));
    if (row.why) this.why.title = row.why;
    else this.why.removeAttribute("title");
    say(this.numbers, this.#figures(row));
  }

  #remark(row, label) {
    if (row.silent) return `Nothing for ${duration(this.state.now() - row.heard)}`;
    if (row.doubt?.length > 1) {
      const [first, second] = row.doubt.map((i) => spoken(this.state.labels[i]));
      return `${first} or ${second.toLowerCase()}?`;
    }
    if (label === null || label === "unknown") return row.why ?? "";
    return `${percent(row.confidence)} · for ${duration((row.newest ?? row.onset) - row.onset)}`;
  }

  #figures(row) {
    const parts = [];
    if (row.silent) return "";
    if (row.rate != null) parts.push(`${row.rate.toFixed(row.rate < 10 ? 1 : 0)} Hz`);
    if (row.completeness != null) parts.push(percent(row.completeness));
    return parts.join(" · ");
  }

  drawBands() {
    const { row } = this.watch;
    if (!row || !this.visible) return;
    const to = row.newest ?? 0, from = to - this.state.historyMs;
    const bouts = timeline(this.watch, this.state.labels);
    say(this.description, describeBands(bouts, from, to));
    const place = fitCanvas(this.bands);
    if (place) drawBands(place, bouts, from, to, { track: resolved("--sunk"), caption: resolved("--ink-3") });
  }
}
