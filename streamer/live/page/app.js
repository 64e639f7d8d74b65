// The page: what is asked for, where one is, and what is done with each frame.

import { Card, SEEN_MS } from "./card.js";
import { Detail } from "./detail.js";
import { make, say } from "./element.js";
import { colourOf, onTheme } from "./palette.js";
import { Stream } from "./stream.js";
import { Playhead, Readings } from "./tape.js";
import { count, plural, spoken } from "./words.js";

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const SCALES = { acc: 0.01, gyro: 0.001 };
const PAGE = 60;

/** What is known of one watch. */
class Watch {
  constructor(name) {
    this.name = name;
    this.row = null;
    this.bouts = [];
    this.acc = new Readings(1.8 * SEEN_MS);
    this.gyro = new Readings(1.8 * SEEN_MS);
    this.head = new Playhead(SEEN_MS);
  }
}

const state = {
  labels: [],
  historyMs: 900000,
  hello: null,
  fleet: null,
  clock: 0,
  /** The service's clock now, as far as the page can tell. */
  now: () => state.clock + performance.now(),
};
const watches = new Map();
const cards = new Map();
let page = [];
let wanted = { q: "", activity: "", order: "name", first: 0 };
const detail = new Detail(state);

const watchOf = (name) => {
  let watch = watches.get(name);
  if (!watch) watches.set(name, (watch = new Watch(name)));
  return watch;
};

// --- what is asked for ------------------------------------------------------------------------------------------------

const route = () => {
  const found = /^#\/watch\/(.+)$/.exec(location.hash);
  try {
    return found ? decodeURIComponent(found[1]) : null;
  } catch {
    return null;
  }
};

const stream = new Stream({ hello: onHello, frame: onFrame, state: onState });

function ask() {
  const name = route();
  if (name !== null) stream.ask({ watch: name.slice(0, 64), count: 0 });
  else stream.ask({ ...wanted, count: PAGE });
}

function want(change) {
  wanted = { ...wanted, first: 0, ...change };
  ask();
}

// --- frames -----------------------------------------------------------------------------------------------------------

function onHello(hello) {
  if (state.hello && state.hello.version !== hello.version) {
    location.reload();
    return;
  }
  const otherModel = state.hello && state.hello.digest !== hello.digest;
  state.hello = hello;
  state.labels = hello.labels;
  state.historyMs = hello.history_ms;
  if (otherModel) for (const watch of watches.values()) Object.assign(watch, { row: null, bouts: [] });
  say(byId("model"), hello.model);
  showWorkers(hello);
  detail.hello(hello);
}

function showWorkers({ worker, workers, port }) {
  const foot = byId("foot");
  if (workers < 2) {
    say(foot, "What is shown here is gathered only while somebody looks on.");
    return;
  }
  foot.replaceChildren(`Worker ${worker + 1} of ${workers}: each follows its own share of the watches. `);
  for (let i = 0; port && i < workers; i++) {
    if (i === worker) continue;
    const address = `${location.protocol}//${location.hostname}:${port + i}/`;
    foot.append(make("a", { href: address }, `Worker ${i + 1}`), " ");
  }
}

function onFrame(frame) {
  state.clock = frame.now - performance.now();
  if (frame.fleet) showFleet(frame.fleet, route() === null);
  // In detail there is no page; the cards are still there when one comes back.
  if (frame.page && route() === null) turnPage(frame.page);
  for (const row of frame.rows ?? []) {
    const watch = watchOf(row.name);
    watch.row = row;
    cards.get(row.name)?.update();
  }
  for (const [name, bouts] of Object.entries(frame.bouts ?? {})) watchOf(name).bouts = bouts;
  takeReadings(frame);
  if (frame.rows) for (const card of cards.values()) if (card.visible) card.drawBands();
  if (frame.watch) detail.update(frame.watch, watchOf(detail.name));
}

function takeReadings(frame) {
  const now = performance.now(), gained = new Set();
  for (const sensor of ["acc", "gyro"]) {
    for (const [name, pieces] of Object.entries(frame[sensor] ?? {})) {
      const watch = watchOf(name), from = watch[sensor].add(pieces, SCALES[sensor]);
      gained.add(watch);
      cards.get(name)?.gained(sensor, from);
      if (watch === detail.watch) detail.gained(sensor, from);
    }
  }
  for (const watch of gained) {
    // Without motion the traces stand still and are renewed about once a second.
    if (still.matches && now - watch.head.arrived < 900) continue;
    watch.head.arrive(Math.max(watch.acc.newest, watch.gyro.newest), now);
  }
}

let moved = 0;

/** Thirty times a second: more is not seen in such small traces. */
function move(now) {
  if (now - moved > 30) {
    moved = now;
    const at = (watch) => (still.matches ? watch.head.target : watch.head.at(now));
    if (detail.watch) detail.tape.show(at(detail.watch));
    else for (const card of cards.values()) if (card.visible) card.tape.show(at(card.watch));
  }
  requestAnimationFrame(move);
}

function onState(what, why = "") {
  if (what === "lost" || !state.fleet?.unready) {
    byId("status").dataset.state = what;
    say(byId("status-text"), what === "live" ? "Live" : why ? `Trying again: ${why}` : "Connection lost, trying again");
  }
}

// --- the overview -----------------------------------------------------------------------------------------------------

function showFleet(fleet, isOverview) {
  state.fleet = fleet;
  const live = fleet.watches - fleet.silent;
  say(byId("fleet"), plural(fleet.watches, "watch", "watches"));
  const parts = [`${count(live)} live`];
  if (fleet.silent) parts.push(`${count(fleet.silent)} silent`);
  if (fleet.waiting) parts.push(`${plural(fleet.waiting, "name")} with too few readings yet`);
  if (fleet.matching !== fleet.watches) parts.push(`${count(fleet.matching)} match`);
  say(byId("fleet-sub"), parts.join(" · "));
  const status = byId("status");
  status.dataset.state = fleet.unready ? "unready" : "live";
  say(byId("status-text"), fleet.unready ? `Not recognising: ${fleet.unready}` : "Live");
  if (!isOverview) return;
  showCounts(fleet.counts);
  showPager(fleet);
  showEmpty(fleet);
}

const chips = new Map();
const strips = new Map();

function showCounts(counts) {
  const strip = byId("strip"), group = byId("chips");
  counts.forEach((n, i) => {
    const label = i < state.labels.length ? state.labels[i] : null;
    const key = label ?? "none";
    let piece = strips.get(key);
    if (!piece) {
      strips.set(key, (piece = make("span", label === null ? { class: "none" } : {})));
      strip.append(piece);
      const number = make("b");
      const chip = make("button", { type: "button", class: "chip", "aria-pressed": "false" }, make("i"), label === null ? "No activity" : spoken(label), number);
      chip.addEventListener("click", () => want({ activity: wanted.activity === key ? "" : key }));
      chips.set(key, { chip, number });
      group.append(chip);
      for (const element of [piece, chip]) element.style.setProperty("--activity", colourOf(label));
    }
    piece.style.flexGrow = n;
    piece.hidden = !n;
    const { chip, number } = chips.get(key);
    chip.hidden = !n && wanted.activity !== key;
    chip.setAttribute("aria-pressed", String(wanted.activity === key));
    say(number, count(n));
  });
}

function showPager({ matching, first }) {
  byId("pager").hidden = matching <= PAGE && !first;
  say(byId("pager-text"), `${count(first + 1)} to ${count(Math.min(first + PAGE, matching))} of ${count(matching)}`);
  byId("previous").disabled = first === 0;
  byId("next").disabled = first + PAGE >= matching;
  wanted.first = first;
}

function showEmpty({ watches: known, matching }) {
  byId("empty").hidden = matching > 0;
  byId("watches").hidden = matching === 0;
  say(
    byId("empty-text"),
    known ? "No watch matches." : "No watch has sent readings yet. They appear here with the first ones that can be used.",
  );
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) target.card.appear();
    else target.card.visible = false;
  }
}, { rootMargin: "80px" });

function turnPage(names) {
  const list = byId("watches");
  const before = still.matches ? null : new Map(page.map((name) => [name, cards.get(name)?.element.getBoundingClientRect()]));
  const focused = document.activeElement?.closest?.("#watches > li")?.card?.watch.name;
  page = names;
  for (const [name, card] of cards) {
    if (!names.includes(name)) {
      seen.unobserve(card.element);
      cards.delete(name);
      if (name !== detail.name) watches.delete(name);
    }
  }
  list.replaceChildren(
    ...names.map((name) => {
      let card = cards.get(name);
      if (!card) {
        cards.set(name, (card = new Card(watchOf(name), state)));
        seen.observe(card.element);
      }
      return card.element;
    }),
  );
  // Moving an element in the document takes the focus from it.
  if (focused && cards.has(focused) && document.activeElement === document.body) cards.get(focused).link.focus({ preventScroll: true });
  if (before?.size) glide(before);
}

/** Lets cards glide from where they were. */
function glide(before) {
  for (const [name, old] of before) {
    const element = cards.get(name)?.element;
    if (!element || !old) continue;
    const now = element.getBoundingClientRect();
    const dx = old.left - now.left, dy = old.top - now.top;
    if (!dx && !dy) continue;
    element.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: 450, easing: "cubic-bezier(0.3, 0.7, 0.2, 1)" });
  }
}

// --- places and keys --------------------------------------------------------------------------------------------------

let lastOpened = null;

function show() {
  const name = route();
  byId("overview").hidden = name !== null;
  byId("detail").hidden = name === null;
  if (name === null) {
    detail.close();
    document.title = "har-stream";
    cards.get(lastOpened)?.link.focus();
  } else {
    lastOpened = name;
    document.title = `${name} · har-stream`;
    detail.open(watchOf(name));
    byId("d-name").focus();
    scrollTo(0, 0);
  }
  ask();
}

function step(event) {
  const links = [...document.querySelectorAll("#watches .card")];
  const from = links.indexOf(document.activeElement);
  if (from < 0) return;
  const tops = links.map((link) => link.getBoundingClientRect().top);
  const across = Math.max(1, tops.filter((top) => Math.abs(top - tops[0]) < 4).length);
  const to = { ArrowLeft: from - 1, ArrowRight: from + 1, ArrowUp: from - across, ArrowDown: from + across, Home: 0, End: links.length - 1 }[event.key];
  if (to === undefined || !links[to]) return;
  event.preventDefault();
  links[to].focus();
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    if (route() !== null) location.hash = "#/";
    byId("q").focus();
    byId("q").select();
  } else if (event.key === "Escape" && route() !== null) {
    location.hash = "#/";
  } else if (!typing && route() === null) {
    step(event);
  }
});

let typed = 0;
byId("q").addEventListener("input", (event) => {
  clearTimeout(typed);
  typed = setTimeout(() => want({ q: event.target.value.trim() }), 120);
});
byId("order").addEventListener("change", (event) => want({ order: event.target.value }));
byId("tools").addEventListener("submit", (event) => event.preventDefault());
byId("previous").addEventListener("click", () => want({ first: Math.max(0, wanted.first - PAGE) }));
byId("next").addEventListener("click", () => want({ first: wanted.first + PAGE }));
addEventListener("hashchange", show);

const resizing = new ResizeObserver(() => {
  for (const card of cards.values()) if (card.visible) card.appear();
});
resizing.observe(byId("watches"));

// --- theme ------------------------------------------------------------------------------------------------------------

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  say(byId("theme-text"), `Theme: ${name}`);
  byId("theme").setAttribute("aria-label", `Theme: ${name}`);
  try {
    localStorage.setItem("har-theme", name);
  } catch {
    // Not kept where the browser keeps nothing.
  }
}

function storedTheme() {
  try {
    const name = localStorage.getItem("har-theme");
    return THEMES.includes(name) ? name : "auto";
  } catch {
    return "auto";
  }
}

byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length]));
setTheme(storedTheme());
onTheme(() => {
  for (const [key, piece] of strips) {
    for (const element of [piece, chips.get(key).chip]) element.style.setProperty("--activity", colourOf(key === "none" ? null : key));
  }
  for (const card of cards.values()) card.restyle();
  detail.restyle();
});

show();
requestAnimationFrame(move);
