// Each activity's colour and picture. Neighbours in hue differ in lightness; what has no entry gets a hue by its name.

const HUES = {
  walking: [156, 1], walking_upstairs: [176, 0], walking_downstairs: [138, 0], stairs: [122, 1],
  running: [36, 1], jumping: [16, 1], squats: [4, 0], sit_ups: [346, 0],
  sitting: [262, 1], standing: [226, 1], lying: [288, 0],
  typing: [306, 1], writing: [326, 0], brushing_teeth: [196, 1],
  eating_soup: [68, 1], eating_chips: [84, 0], eating_pasta: [58, 0], eating_sandwich: [100, 1], drinking: [210, 0],
  kicking: [18, 0], catching: [48, 1], dribbling: [40, 0], clapping: [350, 1], folding_clothes: [274, 0],
};

// Groups are paler than any activity in them, as they say less.
const GROUP_HUES = {
  moving: [110, 1], on_foot: [146, 1], still: [250, 1], desk_work: [316, 1], eating_or_drinking: [80, 0], eating: [80, 1],
};

const ICONS = {
  walking: "walk", walking_upstairs: "up", walking_downstairs: "down", stairs: "stairs", running: "run",
  jumping: "jump", squats: "weight", sit_ups: "weight", sitting: "sit", standing: "stand", lying: "lie",
  typing: "type", writing: "write", brushing_teeth: "brush", eating_soup: "bowl", eating_pasta: "bowl",
  eating_chips: "fork", eating_sandwich: "fork", drinking: "drink", kicking: "ball", catching: "ball",
  dribbling: "ball", clapping: "hand", folding_clothes: "shirt", unknown: "unknown",
  moving: "moving", on_foot: "walk", still: "still", desk_work: "type", eating_or_drinking: "fork", eating: "fork",
};

const systemDark = matchMedia("(prefers-color-scheme: dark)");

export const isDark = () => (document.documentElement.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";

/** Calls back when the theme changes, whoever changed it. */
export function onTheme(callback) {
  systemDark.addEventListener("change", callback);
  new MutationObserver(callback).observe(document.documentElement, { attributeFilter: ["data-theme"] });
}

function hueOf(label) {
  if (Object.hasOwn(HUES, label)) return HUES[label];
  let hash = 0;
  for (const letter of label) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return [hash % 360, hash & 1];
}

/** The colour of a label, or of no activity for null. */
export function colourOf(label) {
  const dark = isDark();
  if (label === null) return dark ? "oklch(0.45 0.02 268)" : "oklch(0.78 0.01 268)";
  if (label === "unknown") return dark ? "oklch(0.62 0.02 268)" : "oklch(0.66 0.012 268)";
  const isGroup = Object.hasOwn(GROUP_HUES, label);
  const [hue, tone] = isGroup ? GROUP_HUES[label] : hueOf(label);
  const lightness = dark ? (tone ? 0.78 : 0.68) : (tone ? 0.68 : 0.58);
  return `oklch(${lightness} ${isGroup ? 0.06 : dark ? 0.145 : 0.155} ${hue})`;
}

export const iconOf = (label) => (label === null ? "none" : Object.hasOwn(ICONS, label) ? ICONS[label] : "other");

const probe = document.createElement("span");
probe.hidden = true;
const known = new Map();
onTheme(() => known.clear());

/** What a custom property of the style sheet comes to in this theme, for canvases. */
export function resolved(property) {
  let colour = known.get(property);
  if (colour === undefined) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${property})`;
    known.set(property, (colour = getComputedStyle(probe).color));
  }
  return colour;
}
