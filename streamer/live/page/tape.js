// A moving trace of one sensor: a strip longer than what is seen of it, drawn once and slid along.
//
//     |<------------- strip ------------->|
//                  |<--- seen --->|            newest
//     ...xxxxxxxxxx|xxxxxxxxxxxxxx|xxxxxxx.....
//
// Only new readings are drawn; moving is left to the compositor. What is seen follows the newest reading at a distance
// that bridges the pause between two messages, so that it moves evenly though readings come in lumps.

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

/** Where the eye is: follows the newest reading evenly. */
export class Playhead {
  constructor(windowMs) {
    this.windowMs = windowMs;
    this.at = null;
    this.speed = 1;
    this.target = null;
    this.last = 0;
    this.arrived = 0;
    this.pause = 400;
  }

  arrive(newest, now) {
    if (this.target !== null && newest <= this.target && newest > this.target - this.windowMs) return;
    if (this.at === null || newest < this.at || newest - this.at > 1.5 * this.windowMs) {
      // From elsewhere, or after a long pause.
      this.at = newest;
    } else {
      const pause = now - this.arrived;
      this.pause = Math.max(pause, this.pause + (pause - this.pause) * 0.15);
    }
    this.arrived = now;
    this.target = newest;
    this.speed = (newest - this.at) / Math.min(Math.max(1.25 * this.pause, 250), 3000);
  }

  step(now) {
    const passed = Math.min(now - this.last, 200);
    this.last = now;
    if (this.at !== null) this.at = Math.min(this.target, this.at + passed * this.speed);
    return this.at;
  }
}

const STEPS = [0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10240];

export class Tape {
  /** lane: an element with a fixed height; least: smallest half span that is shown, in the readings' unit. */
  constructor(lane, readings, windowMs, { least, width = 1.5, scaled = null }) {
    this.lane = lane;
    this.readings = readings;
    this.windowMs = windowMs;
    this.least = least;
    this.lineWidth = width;
    this.scaled = scaled;
    this.canvas = document.createElement("canvas");
    lane.append(this.canvas);
    this.context = this.canvas.getContext("2d");
    this.origin = null;
    this.drawn = 0;
    this.middle = 0;
    this.half = least;
    this.restyle();
  }

  restyle() {
    this.colours = ["--trace-x", "--trace-y", "--trace-z"].map(resolved);
    this.origin = null;
  }

  resize() {
    const width = this.lane.clientWidth, height = this.lane.clientHeight, ratio = Math.min(devicePixelRatio || 1, 2);
    if (!width || (width === this.width && height === this.height && ratio === this.ratio)) return;
    Object.assign(this, { width, height, ratio, origin: null });
    this.canvas.width = Math.ceil(width * LONG * ratio);
    this.canvas.height = Math.ceil(height * ratio);
    this.canvas.style.width = `${width * LONG}px`;
    this.canvas.style.height = `${height}px`;
    this.perMs = width / this.windowMs;
  }

  /** Draws readings from an index on, which `Readings.add` gave. */
  extend(from) {
    const { values } = this.readings;
    if (!this.width || !values.length) return;
    const out = this.origin === null || from < 0 || (this.readings.newest - this.origin) * this.perMs > this.width * LONG;
    if (out || !this.#fits(values, from)) this.redraw();
    else this.#stroke(values, Math.max(0, from - 4));
  }

  redraw() {
    const { values, newest } = this.readings;
    if (!this.width) return;
    this.#fit(values);
    this.origin = newest - 1.7 * this.windowMs;
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    let i = 0;
    while (i < values.length && values[i] < this.origin) i += 4;
    this.#stroke(values, i);
    this.scaled?.(this.middle, this.half);
  }

  /** Slides so that a time stands at the right edge. */
  show(time) {
    if (this.origin === null || time === null) return;
    const x = this.width - (time - this.origin) * this.perMs;
    this.canvas.style.transform = `translate3d(${x.toFixed(2)}px,0,0)`;
  }

  #span(values, from) {
    let low = Infinity, high = -Infinity;
    for (let i = from; i < values.length; i += 4) {
      low = Math.min(low, values[i + 1], values[i + 2], values[i + 3]);
      high = Math.max(high, values[i + 1], values[i + 2], values[i + 3]);
    }
    return [low, high];
  }

  #fits(values, from) {
    const [low, high] = this.#span(values, from);
    return low >= this.middle - this.half && high <= this.middle + this.half;
  }

  #fit(values) {
    const [low, high] = this.#span(values, 0);
    const middle = (low + high) / 2;
    const needed = Math.max(this.least, ((high - low) / 2) * 1.12);
    const half = STEPS.find((step) => step >= needed) ?? needed;
    // Around zero where that costs little, so that still and moving look alike.
    this.middle = Math.max(Math.abs(low), Math.abs(high)) <= half ? 0 : Math.round(middle / (half / 4)) * (half / 4);
    this.half = half;
    if (low < this.middle - half || high > this.middle + half) this.middle = middle;
  }

  #stroke(values, from) {
    const { context, ratio, perMs, origin, middle, half, height } = this;
    if (values.length - from < 8) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineWidth = this.lineWidth;
    context.lineJoin = context.lineCap = "round";
    const scale = (height / 2 - this.lineWidth) / half;
    for (let axis = 1; axis <= 3; axis++) {
      context.strokeStyle = this.colours[axis - 1];
      context.beginPath();
      let before = -Infinity;
      for (let i = from; i < values.length; i += 4) {
        const x = (values[i] - origin) * perMs, y = height / 2 - (values[i + axis] - middle) * scale;
        if (values[i] - before > BREAK_MS) context.moveTo(x, y);
        else context.lineTo(x, y);
        before = values[i];
      }
      context.stroke();
    }
  }
}
