// A moving trace of a watch's sensors: a strip longer than what is seen of it, drawn once and moved along.
//
//     |<------------- strip ------------->|
//                  |<--- seen --->|            newest
//     ...xxxxxxxxxx|xxxxxxxxxxxxxx|xxxxxxx.....
//
// Only new readings are drawn. What is seen follows the newest reading at a distance that bridges the pause between two
// messages, so that it moves evenly though readings come in lumps.

import { resolved } from "./palette.js";

const LONG = 2.6;
/** Neighbours further apart than this are not joined. */
const BREAK_MS = 1500;

export class Readings {
  // Flat: time in ms, x, y, z. Old ones are dropped now and then.
  constructor(keepMs) {
    this.keepMs = keepMs;
    this.values = [];
    this.newest = -Infinity;
  }

  /** Takes pieces; returns the index of the first new reading, or -1 where all begins anew. */
  add(pieces, scale) {
    let first = this.values.length;
    for (const [, start, flat] of pieces) {
      for (let i = 0; i < flat.length; i += 4) {
        const t = start + flat[i];
        if (t <= this.newest) {
          if (t > this.newest - this.keepMs) continue; // known already, as after a reconnection
          this.values.length = 0;
          first = -1;
        }
        this.newest = t;
        this.values.push(t, flat[i + 1] * scale, flat[i + 2] * scale, flat[i + 3] * scale);
      }
    }
    if (this.values.length > 16 && this.values[0] < this.newest - 2 * this.keepMs) {
      let i = 0;
      while (this.values[i] < this.newest - this.keepMs) i += 4;
      this.values.splice(0, i);
      if (first >= 0) first = Math.max(0, first - i);
    }
    return first;
  }
}

/** Where the eye is: on its way to the newest reading, evenly. */
export class Playhead {
  constructor(windowMs) {
    this.windowMs = windowMs;
    this.target = null;
    this.pause = 400;
    this.arrived = this.duration = 0;
  }

  /** Where it is now. */
  at(now) {
    if (this.target === null) return null;
    const passed = this.duration ? Math.min((now - this.arrived) / this.duration, 1) : 1;
    return this.from + (this.target - this.from) * passed;
  }

  /** Readings have come up to a time. */
  arrive(newest, now) {
    if (this.target !== null && newest <= this.target && newest > this.target - this.windowMs) return;
    const at = this.at(now);
    if (at === null || newest < at || newest - at > 1.5 * this.windowMs) {
      // From elsewhere, or after a long pause.
      this.from = newest;
      this.duration = 0;
    } else {
      const pause = now - this.arrived;
      this.pause = Math.max(pause, this.pause + (pause - this.pause) * 0.15);
      this.from = at;
      this.duration = Math.min(Math.max(1.25 * this.pause, 250), 3000);
    }
    this.arrived = now;
    this.target = newest;
  }
}

const STEPS = [0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240];

/** One sensor's part of a tape: a share of its height, with a scale of its own. */
class Lane {
  constructor(readings, { share, least, scaled = null }) {
    Object.assign(this, { readings, share, least, scaled, middle: 0, half: least });
  }

  fits(from) {
    const [low, high] = this.#span(from);
    return low >= this.middle - this.half && high <= this.middle + this.half;
  }

  fit() {
    const [low, high] = this.#span(0);
    const needed = Math.max(this.least, ((high - low) / 2) * 1.12);
    const half = STEPS.find((step) => step >= needed) ?? needed;
    const middle = (low + high) / 2;
    // Around zero where that costs little, so that still and moving look alike.
    this.middle = !(Math.max(Math.abs(low), Math.abs(high)) > half) ? 0 : Math.round(middle / (half / 4)) * (half / 4);
    this.half = half;
    if (low < this.middle - half || high > this.middle + half) this.middle = middle;
    this.scaled?.(this.middle, this.half);
  }

  #span(from) {
    const { values } = this.readings;
    let low = Infinity, high = -Infinity;
    for (let i = from; i < values.length; i += 4) {
      low = Math.min(low, values[i + 1], values[i + 2], values[i + 3]);
      high = Math.max(high, values[i + 1], values[i + 2], values[i + 3]);
    }
    return [low, high];
  }
}

export class Tape {
  /** place: an element with a fixed height; lanes: by sensor its readings, share of the height and least half span. */
  constructor(place, lanes, windowMs, lineWidth) {
    this.place = place;
    this.lanes = Object.fromEntries(Object.entries(lanes).map(([sensor, lane]) => [sensor, new Lane(lane.readings, lane)]));
    this.windowMs = windowMs;
    this.lineWidth = lineWidth;
    this.canvas = document.createElement("canvas");
    place.append(this.canvas);
    this.context = this.canvas.getContext("2d");
    this.restyle();
  }

  restyle() {
    this.colours = ["--trace-x", "--trace-y", "--trace-z"].map(resolved);
    this.origin = null;
  }

  resize() {
    const width = this.place.clientWidth, height = this.place.clientHeight, ratio = Math.min(devicePixelRatio || 1, 2);
    if (!width || (width === this.width && height === this.height && ratio === this.ratio)) return;
    Object.assign(this, { width, height, ratio, origin: null });
    this.canvas.width = Math.ceil(width * LONG * ratio);
    this.canvas.height = Math.ceil(height * ratio);
    this.canvas.style.width = `${this.canvas.width / ratio}px`;
    this.canvas.style.height = `${this.canvas.height / ratio}px`;
    this.perMs = width / this.windowMs;
    let top = 0;
    for (const lane of Object.values(this.lanes)) {
      lane.top = top;
      top += lane.height = lane.share * height;
    }
  }

  /** Draws a sensor's readings from an index on, which `Readings.add` gave. */
  extend(sensor, from) {
    const lane = this.lanes[sensor], { newest, values } = lane.readings;
    if (!this.width || !values.length) return;
    const out = this.origin === null || from < 0 || newest < this.origin || (newest - this.origin) * this.perMs > this.width * LONG;
    if (out || !lane.fits(from)) this.redraw();
    else this.#stroke(lane, Math.max(0, from - 4));
  }

  redraw() {
    if (!this.width) return;
    const newest = Math.max(...Object.values(this.lanes).map((lane) => lane.readings.newest));
    this.origin = Number.isFinite(newest) ? newest - 1.7 * this.windowMs : null;
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.shown = null;
    if (this.origin === null) return;
    for (const lane of Object.values(this.lanes)) {
      const { values } = lane.readings;
      if (values.length) lane.fit();
      let i = 0;
      while (i < values.length && values[i] < this.origin) i += 4;
      this.#stroke(lane, i);
    }
  }

  /** Moves so that a time stands at the right edge: by whole pixels, which costs least where there is no graphics card. */
  show(time) {
    if (this.origin === null || time === null) return;
    const x = Math.round((this.width - (time - this.origin) * this.perMs) * this.ratio) / this.ratio;
    if (x === this.shown) return;
    this.shown = x;
    this.canvas.style.transform = `translate3d(${x}px, 0, 0)`;
  }

  #stroke(lane, from) {
    const { context, ratio, perMs, origin } = this, { values } = lane.readings;
    if (values.length - from < 8) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineWidth = this.lineWidth;
    context.lineJoin = context.lineCap = "round";
    const centre = lane.top + lane.height / 2, scale = (lane.height / 2 - this.lineWidth) / lane.half;
    for (let axis = 1; axis <= 3; axis++) {
      context.strokeStyle = this.colours[axis - 1];
      context.beginPath();
      let before = -Infinity;
      for (let i = from; i < values.length; i += 4) {
        const x = (values[i] - origin) * perMs, y = centre - (values[i + axis] - lane.middle) * scale;
        if (values[i] - before > BREAK_MS) context.moveTo(x, y);
        else context.lineTo(x, y);
        before = values[i];
      }
      context.stroke();
    }
  }
}
