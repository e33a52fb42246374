// Draws the status page. All texts become text nodes: names come from peers.

/** Makes an element with a class and children, which are elements or texts. */
export function make(name, className = '', ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Changes a text only if it differs, so that the user's selection survives. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a text, or hides its element when there is none. */
export function say(element, text) {
  element.hidden = !text;
  write(element, text ?? '');
}

/**
 * Makes the children of `parent` those of `items`, each kept by its key: `create(item)` makes
 * `{ element, update(item) }`.
 */
export function sync(parent, kept, items, key, create) {
  const seen = new Set();
  items.forEach((item, at) => {
    const id = key(item);
    seen.add(id);
    if (!kept.has(id)) kept.set(id, create(item));
    const view = kept.get(id);
    view.update(item);
    if (parent.children[at] !== view.element) parent.insertBefore(view.element, parent.children[at] ?? null);
  });
  for (const [id, view] of kept) {
    if (seen.has(id)) continue;
    view.element.remove();
    kept.delete(id);
  }
}

/** The space that keeps a number and its unit on one line. */
const NBSP = '\u00a0';

/** Formats bits per second. */
export function bits(bps) {
  if (bps >= 9.995e8) return `${(bps / 1e9).toFixed(2)}${NBSP}Gbit/s`;
  if (bps >= 9.995e5) return `${(bps / 1e6).toFixed(bps >= 1e7 ? 1 : 2)}${NBSP}Mbit/s`;
  return `${Math.round(bps / 1e3)}${NBSP}kbit/s`;
}

/** Formats a number with a thin space between thousands. */
export function count(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, '\u2009');
}

/** Formats a count with its noun, in the plural if needed. */
export const many = (n, one) => `${count(n)} ${one}${n === 1 ? '' : one.endsWith('h') ? 'es' : 's'}`;

/** Formats a fraction as a percentage. */
export function percent(fraction) {
  const value = fraction * 100;
  return `${value >= 0.05 && value < 9.95 ? value.toFixed(1) : Math.round(value)}${NBSP}%`;
}

/** Formats the upper bound of a delay, µs; null means unbounded. */
export function delay(us) {
  if (us === null) return `>${NBSP}500${NBSP}ms`;
  return us >= 1000 ? `≤${NBSP}${us / 1000}${NBSP}ms` : `≤${NBSP}${us}${NBSP}µs`;
}

/** Formats a duration. */
export function duration(seconds) {
  const parts = [[86_400, 'd'], [3_600, 'h'], [60, 'min'], [1, 's']];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return `0${NBSP}s`;
  const [[size, unit], next] = [parts[at], parts[at + 1]];
  const rest = next && Math.floor((seconds % size) / next[0]);
  return `${Math.floor(seconds / size)}${NBSP}${unit}${rest && at < 2 ? ` ${rest}${NBSP}${next[1]}` : ''}`;
}
