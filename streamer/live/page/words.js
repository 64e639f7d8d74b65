// Numbers and names as people read them.

/** A label as people say it, with a capital. */
export function spoken(label) {
  if (label === null) return "No activity yet";
  const text = label.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export const percent = (share) => `${Math.round(share * 100)}%`;
export const count = (n) => n.toLocaleString("en");

/** A duration: 42 s, 3:07, 2:05:09. */
export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)}`;
  if (s < 172800) return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return `${Math.floor(s / 86400)} days`;
}

/** How long ago, calmly. */
export function ago(ms) {
  return ms < 1500 ? "now" : duration(ms);
}

export function clockTime(ms) {
  return new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
