// The timeline of bouts as coloured bands.

import { colourOf } from "./palette.js";
import { duration, percent, spoken } from "./words.js";

// Sizes as the browser tells of them: asking for one would have it lay out the whole page again.
const sizes = new WeakMap();
const sizing = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) sizes.set(target, contentRect);
});

/** A canvas ready to be drawn on, in CSS pixels and empty; null while it isn't shown. */
export function fitCanvas(canvas) {
  let size = sizes.get(canvas);
  if (!size) {
    sizing.observe(canvas);
    sizes.set(canvas, (size = canvas.getBoundingClientRect()));
  }
  const { width, height } = size;
  if (!width) return null;
  const ratio = Math.min(devicePixelRatio || 1, 2);
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A watch's bouts with the current one: [label, onset, end, is current], labels as text. */
export function timeline(watch, labels) {
  const bouts = watch.bouts.map(([activity, onset, end]) => [labels[activity], onset, end, false]);
  const { row } = watch;
  if (row && row.activity >= 0 && row.newest != null) {
    const label = labels[row.activity];
    // The current bout's first part may have been told already by the end of the one before.
    bouts.push([label, row.onset, Math.max(row.newest, row.onset), true]);
  }
  return bouts;
}

export function drawBands(place, bouts, from, to, { named = false, track = null, top = 0, ink = null, caption = null } = {}) {
  const { context, width } = place;
  const height = place.height - top;
  const x = (t) => ((t - from) / (to - from)) * width;
  if (track) {
    context.fillStyle = track;
    context.beginPath();
    context.roundRect(0, top, width, height, 4);
    context.fill();
  }
  if (caption && !(bouts.length && x(bouts[0][1]) < 80)) {
    context.fillStyle = caption;
    context.font = "500 10px Inter, system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillText(`Last ${Math.round((to - from) / 60000)} min`, 7, top + height / 2 + 0.5);
  }
  for (const [label, onset, end, current] of bouts) {
    if (end <= from || onset >= to) continue;
    const left = Math.max(0, x(onset)), right = current ? width : Math.min(width, x(end));
    context.fillStyle = colourOf(label);
    context.beginPath();
    context.roundRect(left, top, Math.max(right - left - (current ? 0 : 1), 1), height, 3);
    context.fill();
    if (named && right - left > 46) {
      context.save();
      context.clip();
      context.fillStyle = ink;
      context.font = "600 12px Inter, system-ui, sans-serif";
      context.textBaseline = "middle";
      context.fillText(spoken(label), left + 8, top + height / 2 + 0.5);
      context.restore();
    }
  }
}

/** The same in words: what took how much of the time. */
export function describeBands(bouts, from, to) {
  const spent = new Map();
  let all = 0;
  for (const [label, onset, end] of bouts) {
    const ms = Math.min(end, to) - Math.max(onset, from);
    if (ms <= 0) continue;
    spent.set(label, (spent.get(label) ?? 0) + ms);
    all += ms;
  }
  if (!all) return "No bouts yet.";
  const parts = [...spent].sort((a, b) => b[1] - a[1]).slice(0, 4);
  return `Last ${duration(all)}: ${parts.map(([label, ms]) => `${spoken(label)} ${percent(ms / all)}`).join(", ")}.`;
}
