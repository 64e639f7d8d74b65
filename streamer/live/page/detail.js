// One watch in detail: its motion, its probabilities over time above its bouts, and why it is not sure.

import { drawBands, fitCanvas, timeline } from "./bands.js";
import { icon, make, Ring, say } from "./element.js";
import { colourOf, iconOf, resolved } from "./palette.js";
import { Tape } from "./tape.js";
import { ago, clockTime, duration, percent, spoken } from "./words.js";
import { SEEN_MS } from "./card.js";

const byId = (id) => document.getElementById(id);
const BAR_ROWS = 6;
const BAND_PX = 30;
const AXIS_PX = 22;
const ENDED = {
  changed: "changed", gap: "readings missing", silence: "fell silent", shutdown: "service stopped",
  sensor_missing: "sensor missing", feed_rate: "feed too slow", uncertain: "no longer sure", end_of_recording: "end of recording",
};

export class Detail {
  constructor(state) {
    this.state = state;
    this.name = null;
    this.watch = null;
    this.windows = [];
    this.minutes = 5;
    this.ring = new Ring(byId("d-ring"));
    this.tape = this.#tape();
    this.bars = Array.from({ length: BAR_ROWS }, () => this.#bar());
    const chart = byId("d-chart");
    this.canvas = chart.querySelector("canvas");
    chart.addEventListener("pointermove", (event) => this.#look(this.#timeAt(event)));
    chart.addEventListener("pointerleave", () => this.#look(null));
    chart.addEventListener("blur", () => this.#look(null));
    chart.addEventListener("keydown", (event) => this.#stepLook(event));
    for (const button of byId("d-spans").children) button.addEventListener("click", () => this.#span(button));
    new ResizeObserver(() => this.#resize()).observe(chart);
  }

  hello({ enter, leave, group_enter: groupEnter }) {
    const groups = groupEnter == null ? "" : ` Where no activity is that sure, a group of them is told from ${percent(groupEnter)} on.`;
    say(byId("d-thresholds"), `Smoothed over time. A bout begins at ${percent(enter)} (the mark) and is given up below ${percent(leave)}.${groups}`);
    this.enter = enter;
    this.groupEnter = groupEnter;
  }

  open(watch) {
    if (this.watch !== watch) {
      this.windows = [];
      this.lookAt = null;
      for (const id of ["d-activity", "d-confidence", "d-since", "d-heard", "d-rate", "d-complete"]) say(byId(id), "");
      for (const id of ["d-reasons", "d-facts", "d-bouts"]) byId(id).replaceChildren();
      this.said = {};
    }
    this.name = watch.name;
    this.watch = watch;
    say(byId("d-name"), watch.name);
    for (const [sensor, lane] of Object.entries(this.tape.lanes)) lane.readings = watch[sensor];
    this.tape.origin = null;
    this.#resize();
    if (watch.row) this.#head(watch.row);
  }

  close() {
    this.name = this.watch = null;
  }

  restyle() {
    this.tape.restyle();
    this.said = {};
    if (this.watch) {
      this.#resize();
      if (this.latest) this.update(this.latest, this.watch);
    }
  }

  gained(sensor, from) {
    this.tape.extend(sensor, from);
  }

  update(told, watch) {
    if (!this.watch) return;
    this.latest = told;
    if (!told.row) {
      this.#gone();
      return;
    }
    watch.row = told.row;
    if (told.bouts) {
      watch.told = told.bouts;
      watch.bouts = told.bouts.map(([activity, onset, end]) => [activity, onset, end]);
    }
    const known = this.windows.length ? this.windows[this.windows.length - 1][0] : -Infinity;
    for (const window of told.windows ?? []) if (window[0] > known) this.windows.push(window);
    if (told.windows?.length && told.windows[told.windows.length - 1][0] < known - this.state.historyMs) this.windows = told.windows;
    this.windows.splice(0, Math.max(0, this.windows.length - 1000));
    this.#head(told.row);
    this.#showBars(told.smoothed ?? [], this.state.labels[told.row.activity]);
    this.#showReasons(told.reasons ?? [], told.row);
    this.#showFacts(told.facts ?? []);
    this.#showBouts(watch);
    byId("d-motion").classList.toggle("waiting", !watch.acc.values.length && !watch.gyro.values.length);
    this.#draw();
  }

  // --- what is said -----------------------------------------------------------------------------------------------

  #gone() {
    say(byId("d-activity"), "Not followed");
    this.ring.show(0, "none");
    this.#list("d-reasons", [["gone", "No watch of this name is followed at present. It appears here as soon as it sends readings."]], ([, text]) =>
      make("li", {}, icon("warn"), make("span", {}, text)));
  }

  #head(row) {
    const label = row.activity < 0 ? null : this.state.labels[row.activity];
    byId("detail").style.setProperty("--activity", colourOf(label));
    say(byId("d-activity"), row.silent ? "Silent" : spoken(label));
    this.ring.show(label === null ? 0 : row.confidence, row.silent ? "silent" : iconOf(label));
    say(byId("d-confidence"), label === null ? "–" : percent(row.confidence));
    say(byId("d-since"), label === null || row.newest == null ? "–" : duration(row.newest - row.onset));
    say(byId("d-heard"), ago(this.state.now() - row.heard));
    say(byId("d-rate"), row.rate == null ? "–" : `${row.rate.toFixed(row.rate < 10 ? 1 : 0)} Hz`);
    say(byId("d-complete"), row.completeness == null ? "–" : percent(row.completeness));
  }

  #showBars(smoothed, told) {
    const best = smoothed.map((share, i) => [share, this.state.labels[i], this.enter]).sort((a, b) => b[0] - a[0]);
    // The group that is told stands above the activities in it.
    const groups = this.state.hello?.groups ?? {};
    const group = Object.hasOwn(groups, told) && smoothed.length ? groups[told] : null;
    if (group) best.unshift([group.reduce((sum, i) => sum + smoothed[i], 0), told, this.groupEnter]);
    this.bars.forEach((bar, i) => {
      const [share, label, enter] = best[i] ?? [0, null, 0];
      bar.row.hidden = label === null;
      if (label === null) return;
      say(bar.name, spoken(label));
      say(bar.share, percent(share));
      bar.row.style.setProperty("--activity", colourOf(label));
      bar.fill.style.setProperty("--share", share.toFixed(4));
      bar.mark.style.setProperty("--at", `${100 * enter}%`);
    });
  }

  #showReasons(reasons, row) {
    const label = row.activity < 0 ? null : this.state.labels[row.activity];
    const said = reasons.length ? reasons : [["sure", `${row.confidence < 0.8 ? "Fairly sure" : "Sure"}: ${percent(row.confidence)} for ${spoken(label).toLowerCase()}, from complete readings.`]];
    this.#list("d-reasons", said, ([code, text]) =>
      make("li", code === "sure" ? { class: "good" } : {}, icon(code === "sure" ? "check" : "warn"), make("span", {}, text)));
  }

  #showFacts(facts) {
    const newest = this.watch.row.newest;
    const all = newest == null ? facts : [...facts, ["Newest reading", new Date(newest).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" }), "by the watch's clock"]];
    this.#list("d-facts", all, ([what, value, meaning]) =>
      make("div", {}, make("dt", {}, what), make("dd", {}, value, ...(meaning ? [make("small", {}, meaning)] : []))));
  }

  #showBouts(watch) {
    const rows = (watch.told ?? []).map(([activity, onset, end, confidence, reason]) => [this.state.labels[activity], onset, end - onset, confidence, ENDED[reason] ?? reason]);
    const { row } = watch;
    if (row.activity >= 0 && row.newest != null) rows.push([this.state.labels[row.activity], row.onset, row.newest - row.onset, row.confidence, "goes on"]);
    this.#list("d-bouts", rows.reverse(), ([label, onset, ms, confidence, ended]) => {
      const swatch = make("i");
      swatch.style.setProperty("--activity", colourOf(label));
      return make("tr", {}, make("td", {}, swatch, spoken(label)), make("td", {}, make("time", { datetime: new Date(onset).toISOString() }, clockTime(onset))), make("td", {}, duration(ms)), make("td", {}, percent(confidence)), make("td", {}, ended));
    });
  }

  /** Renews a list where what it says has changed. */
  #list(id, items, element) {
    const said = JSON.stringify(items);
    if (this.said[id] === said) return;
    this.said[id] = said;
    byId(id).replaceChildren(...items.map(element));
  }

  #bar() {
    const name = make("b"), share = make("span"), fill = make("span"), mark = make("i");
    const row = make("li", { class: "bar-row" }, name, share, make("span", { class: "bar-track", "aria-hidden": "true" }, fill, mark));
    byId("d-bars").append(row);
    return { row, name, share, fill, mark };
  }

  // --- motion -----------------------------------------------------------------------------------------------------

  #tape() {
    const motion = byId("d-motion");
    const lane = (sensor, name, least, top) => {
      const labels = [0.25, 0.5, 0.75].map((at) => {
        const label = make("span", { class: "scale" }), rule = make("span", { class: "rule" });
        label.style.top = rule.style.top = `${top + 50 * at}%`;
        motion.append(rule, label);
        return { at, label };
      });
      motion.append(make("span", { class: `lane-name ${sensor}` }, name));
      const scaled = (middle, half) => {
        for (const { at, label } of labels) say(label, String(Number((middle + half * (1 - 2 * at)).toFixed(2))));
      };
      return { readings: { values: [], newest: -Infinity }, share: 0.5, least, scaled };
    };
    const lanes = { acc: lane("acc", "acceleration, m/s²", 12, 0), gyro: lane("gyro", "angular rate, rad/s", 4, 50) };
    return new Tape(motion, lanes, SEEN_MS, 1.9);
  }

  #resize() {
    if (!this.watch) return;
    this.tape.resize();
    this.tape.redraw();
    this.#draw();
  }

  // --- probabilities over time --------------------------------------------------------------------------------------

  #span(button) {
    for (const other of byId("d-spans").children) other.setAttribute("aria-pressed", String(other === button));
    this.minutes = Number(button.dataset.minutes);
    this.#draw();
  }

  #frameOfTime() {
    const to = this.watch?.row?.newest ?? this.state.now();
    return [to - this.minutes * 60000, to];
  }

  #draw() {
    const place = fitCanvas(this.canvas);
    if (!place || !this.watch?.row) return;
    const [from, to] = this.#frameOfTime();
    const { context, width, height } = place;
    const area = height - BAND_PX - AXIS_PX - 8, x = (t) => ((t - from) / (to - from)) * width;
    context.fillStyle = resolved("--sunk");
    context.fillRect(0, 0, width, area);
    this.#drawProbabilities(context, area, x, from);
    const ink = resolved("--ink-3");
    this.#drawAxis(context, { x, from, to, height, area, ink });
    const bands = { ...place, height: area + 8 + BAND_PX };
    drawBands(bands, timeline(this.watch, this.state.labels), from, to, { named: true, track: resolved("--sunk"), top: area + 8, ink: "oklch(0.16 0.02 268)" });
    this.#drawLook(context, x, area + 8 + BAND_PX);
    const chart = byId("d-chart");
    chart.setAttribute("aria-valuemin", String(Math.round(from)));
    chart.setAttribute("aria-valuemax", String(Math.round(to)));
    this.#sayLook(to);
  }

  #drawProbabilities(context, area, x, from) {
    const hop = this.state.hello?.hop_ms ?? 2000;
    let before = null;
    for (const [end, shares] of this.windows) {
      const start = before !== null && end - before < 1.6 * hop ? before : end - hop;
      before = end;
      if (end < from) continue;
      // On whole pixels, or seams show between the columns.
      const left = Math.round(x(start)), right = Math.round(x(end));
      const total = shares.reduce((sum, share) => sum + share, 0) || 1;
      let bottom = area;
      shares.forEach((share, label) => {
        if (share < 1) return;
        const tall = (share / total) * area;
        context.fillStyle = colourOf(this.state.labels[label]);
        context.fillRect(left, bottom - tall, right - left, tall + 0.5);
        bottom -= tall;
      });
    }
    if (!this.windows.length || x(this.windows[0][0]) > 220) {
      context.fillStyle = resolved("--ink-3");
      context.font = "12px Inter, system-ui, sans-serif";
      context.textBaseline = "middle";
      context.fillText("Kept while somebody looks on", 12, area / 2);
    }
  }

  #drawAxis(context, { x, from, to, height, area, ink }) {
    const step = { 2: 30000, 5: 60000, 15: 180000 }[this.minutes];
    context.font = "12px Inter, system-ui, sans-serif";
    context.textBaseline = "alphabetic";
    context.fillStyle = ink;
    for (let t = to - step; t > from + step / 4; t -= step) {
      const text = `−${duration(to - t)}`;
      context.textAlign = "center";
      context.fillText(text, x(t), height - 5);
      context.globalAlpha = 0.35;
      context.fillRect(x(t), area, 1, 8);
      context.globalAlpha = 1;
    }
    context.textAlign = "right";
    context.fillText("now", x(to) - 2, height - 5);
    context.textAlign = "left";
  }

  #timeAt(event) {
    const [from, to] = this.#frameOfTime();
    const box = this.canvas.getBoundingClientRect();
    return from + ((event.clientX - box.left) / box.width) * (to - from);
  }

  #look(time) {
    this.lookAt = time;
    this.#draw();
  }

  #stepLook(event) {
    const hop = this.state.hello?.hop_ms ?? 2000;
    const [from, to] = this.#frameOfTime();
    const by = { ArrowLeft: -hop, ArrowDown: -hop, ArrowRight: hop, ArrowUp: hop, PageDown: -10 * hop, PageUp: 10 * hop }[event.key];
    const at = { Home: from, End: to }[event.key] ?? (by === undefined ? undefined : (this.lookAt ?? to) + by);
    if (at === undefined) return;
    event.preventDefault();
    this.#look(Math.min(to, Math.max(from, at)));
  }

  #drawLook(context, x, bottom) {
    if (this.lookAt === null || this.lookAt === undefined) return;
    context.fillStyle = resolved("--ink");
    context.fillRect(x(this.lookAt) - 0.75, 0, 1.5, bottom);
  }

  #sayLook(to) {
    const at = this.lookAt ?? to;
    const window = this.windows.find(([end]) => end >= at) ?? this.windows[this.windows.length - 1];
    let text = "No window here.";
    if (window && Math.abs(window[0] - at) < 10000) {
      const best = window[1].map((share, label) => [share / 200, label]).sort((a, b) => b[0] - a[0]).filter(([share]) => share >= 0.02).slice(0, 4);
      text = `${clockTime(window[0])}: ${best.map(([share, label]) => `${spoken(this.state.labels[label])} ${percent(share)}`).join(", ")}`;
    }
    say(byId("d-readout"), text);
    const chart = byId("d-chart");
    chart.setAttribute("aria-valuenow", String(Math.round(at)));
    chart.setAttribute("aria-valuetext", text);
  }
}
