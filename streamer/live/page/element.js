// Making elements. Text only ever goes in as text.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, and children that are elements or text. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function makeSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Sets text where it differs: what doesn't change costs no layout. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function icon(name) {
  return makeSvg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "icon" }, makeSvg("use", { href: `#i-${name}` }));
}

const RADIUS = 22;
const ROUND = 2 * Math.PI * RADIUS;

/** A gauge around a picture: how sure, of what. */
export class Ring {
  constructor(place) {
    this.place = place;
    const circle = (name) =>
      makeSvg("circle", { class: name, cx: 26, cy: 26, r: RADIUS, "stroke-dasharray": ROUND.toFixed(2) });
    this.value = circle("value");
    this.icon = icon("none");
    place.replaceChildren(
      makeSvg("svg", { viewBox: "0 0 52 52", class: "gauge", "aria-hidden": "true" }, circle("track"), this.value),
      this.icon,
    );
    this.show(0, "none");
  }

  show(share, name) {
    if (share !== this.share) this.value.setAttribute("stroke-dashoffset", (ROUND * (1 - share)).toFixed(2));
    if (name !== this.name) this.icon.firstChild.setAttribute("href", `#i-${name}`);
    this.share = share;
    this.name = name;
  }
}
