// Tiles: one for each participant and each shared screen, arranged so that they are as large as the window
// allows. A pinned tile, or else the shared screens, are shown beside a strip of the others.

import { Plot } from '/_rialto/plot.js';

const GAP = 8;
const RATIO = 16 / 9;

export class Tiles {
  /** `onlayout()` is called after tiles were added, removed or resized. */
  constructor(stage, onlayout) {
    this.stage = stage;
    this.onlayout = onlayout;
    this.tiles = new Map();
    /** The key of the tile on stage. */
    this.pinned = null;
    new ResizeObserver(() => this.arrange()).observe(stage);
    document.addEventListener('fullscreenchange', () => this.arrange());
    window.addEventListener('resize', () => document.fullscreenElement && this.arrange());
  }

  /** Returns the tile of a key; creates it if it is new. */
  make(key, kind) {
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = new Tile(kind, () => this.pin(this.pinned === key ? null : key));
      this.tiles.set(key, tile);
      this.stage.append(tile.element);
      this.arrange();
    }
    return tile;
  }

  get(key) {
    return this.tiles.get(key);
  }

  /** Removes every tile whose key is not in the set. */
  keep(keys) {
    let removed = false;
    for (const [key, tile] of this.tiles) {
      if (keys.has(key)) continue;
      tile.element.remove();
      this.tiles.delete(key);
      removed = true;
    }
    if (!this.tiles.has(this.pinned)) this.pinned = null;
    if (removed) this.arrange();
  }

  /** Puts a tile on stage; `null` clears the stage. */
  pin(key) {
    this.pinned = this.tiles.has(key) ? key : null;
    for (const [other, tile] of this.tiles) tile.markPinned(other === this.pinned);
    this.arrange();
  }

  /** Returns key, kind and height of each tile, as `videoConstraints` takes them. */
  heights() {
    return [...this.tiles].map(([key, tile]) => ({ key, kind: tile.kind, height: tile.pictureHeight() }));
  }

  arrange() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const all = [...this.tiles.values()];
    const pinned = this.tiles.get(this.pinned);
    const stage = pinned ? [pinned] : all.filter((tile) => tile.kind === 'desktop');
    const strip = all.filter((tile) => !stage.includes(tile));
    const ratio = pinned?.kind === 'person' ? RATIO : null;
    if (!stage.length) {
      grid(strip, 0, 0, width, height);
    } else if (width > height * 1.2) {
      const across = strip.length ? Math.min(240, width * 0.25) : 0;
      grid(stage, 0, 0, width - across - (across && GAP), height, ratio);
      grid(strip, width - across, 0, across, height);
    } else {
      const across = strip.length ? Math.min(150, height * 0.25) : 0;
      grid(stage, 0, 0, width, height - across - (across && GAP), ratio);
      grid(strip, 0, height - across, width, across);
    }
    this.onlayout();
  }
}

/** Arranges tiles in a rectangle with the number of columns that makes them largest. */
function grid(tiles, left, top, width, height, ratio = RATIO) {
  const count = tiles.length;
  let best = null;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    let w = (width - GAP * (columns - 1)) / columns;
    let h = (height - GAP * (rows - 1)) / rows;
    // A tile may deviate a little from a camera's aspect ratio, so that less of the window stays empty.
    if (ratio) {
      w = Math.min(w, h * ratio * 1.15);
      h = Math.min(h, (w / ratio) * 1.35);
    }
    if (w > 0 && h > 0 && (!best || w * h > best.w * best.h)) best = { columns, rows, w, h };
  }
  if (!best) return;
  const { columns, rows, w, h } = best;
  tiles.forEach((tile, index) => {
    const row = Math.floor(index / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const x = left + (width - inRow * w - (inRow - 1) * GAP) / 2 + (index - row * columns) * (w + GAP);
    const y = top + (height - rows * h - (rows - 1) * GAP) / 2 + row * (h + GAP);
    // Stored separately from the style, which is animated.
    Object.assign(tile, { width: w, height: h });
    Object.assign(tile.element.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${w}px`,
      height: `${h}px`,
    });
  });
}

class Tile {
  constructor(kind, onpin) {
    this.kind = kind;
    this.width = 0;
    this.height = 0;
    this.element = document.createElement('section');
    this.element.className = `tile ${kind} blank`;
    this.video = Object.assign(document.createElement('video'), {
      autoplay: true,
      playsInline: true,
      muted: true,
    });
    this.visible = false;
    this.video.onloadeddata = () => this.#blank();
    this.video.onemptied = () => this.#blank();
    const avatar = document.createElement('div');
    avatar.className = 'avatar';
    this.initials = document.createElement('span');
    avatar.append(this.initials);
    this.label = document.createElement('div');
    this.label.className = 'name';
    this.label.innerHTML =
      '<svg class="muted-icon" viewBox="0 0 24 24" role="img" aria-label="Muted"><rect x="9" y="3" width="6" height="11" rx="3"/><path d="M6 11a6 6 0 0 0 12 0M12 17v4M4 4l16 16"/></svg><b></b>';
    this.name = this.label.querySelector('b');
    this.measure = document.createElement('div');
    this.measure.className = 'measure empty';
    this.measure.innerHTML = '<canvas aria-hidden="true"></canvas><div><p class="page"></p><p class="bridge"></p></div>';
    this.page = this.measure.querySelector('.page');
    this.bridge = this.measure.querySelector('.bridge');
    this.plot = new Plot(this.measure.querySelector('canvas'));
    this.why = Object.assign(document.createElement('p'), { className: 'why', hidden: true });
    this.element.append(this.video, avatar, this.label, this.why, this.measure, this.#tools(onpin));
    this.markPinned(false);
  }

  /** The buttons in the corner. */
  #tools(onpin) {
    const tools = document.createElement('div');
    tools.className = 'tools';
    tools.innerHTML =
      '<button type="button" class="pin"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M9 3h6l-1 6 4 4H6l4-4zM12 13v8"/></svg></button>' +
      '<button type="button" class="full"><svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5"/></svg></button>';
    [this.pinButton, this.fullButton] = tools.children;
    this.pinButton.onclick = onpin;
    this.fullButton.onclick = () => this.toggleFull();
    this.fullButton.hidden = !document.fullscreenEnabled;
    this.element.ondblclick = ({ target }) => target.closest('.tools, .name') || this.toggleFull();
    return tools;
  }

  markPinned(pinned) {
    this.flag('pinned', pinned);
    this.pinButton.setAttribute('aria-pressed', String(pinned));
    this.#label();
  }

  #label() {
    const name = this.element.getAttribute('aria-label') ?? '';
    this.pinButton.title = this.pinButton.getAttribute('aria-pressed') === 'true' ? 'Unpin' : 'Pin';
    this.fullButton.title = 'Full screen';
    this.pinButton.setAttribute('aria-label', `${this.pinButton.title} ${name}`);
    this.fullButton.setAttribute('aria-label', `Full screen: ${name}`);
  }

  /** Toggles full screen for this tile. */
  toggleFull() {
    if (!document.fullscreenEnabled) return;
    const done = document.fullscreenElement ? document.exitFullscreen() : this.element.requestFullscreen();
    done.catch(() => {});
  }

  /**
   * Returns the height at which video is drawn here, CSS pixels: a camera covers its tile, a screen fits
   * into it.
   */
  pictureHeight() {
    if (document.fullscreenElement === this.element) {
      return Math.min(window.innerHeight, window.innerWidth / RATIO);
    }
    const byWidth = this.width / RATIO;
    return this.kind === 'desktop' ? Math.min(this.height, byWidth) : Math.max(this.height, byWidth);
  }

  /** Shows a text, and a name's initials on a colour of its own. */
  title(text, name, id) {
    if (!this.name.querySelector('input, button')) this.name.textContent = text;
    this.element.setAttribute('aria-label', text);
    this.#label();
    this.initials.textContent = initialsOf(name);
    let hue = 0;
    for (const character of id) hue = (hue * 31 + character.charCodeAt(0)) % 360;
    this.initials.style.background = `hsl(${hue} 45% 38%)`;
  }

  /** Shows a track; `null` or `visible` false shows the initials. */
  show(track, visible) {
    const current = this.video.srcObject?.getVideoTracks()[0] ?? null;
    if (current !== track) {
      this.video.srcObject = track ? new MediaStream([track]) : null;
    }
    this.visible = Boolean(track) && visible;
    this.#blank();
  }

  /** Initials until there is a frame. */
  #blank() {
    this.element.classList.toggle('blank', !this.visible || this.video.readyState < 2);
  }

  /** Shows why there is no better picture; an empty text hides the reason. */
  explain(text) {
    this.why.hidden = !text;
    if (this.why.textContent !== text) this.why.textContent = text;
  }

  flag(name, on) {
    this.element.classList.toggle(name, on);
  }

  /** Shows one second's figures: `page` and `bridge` are texts. */
  figures(page, bridge, pageBps, bridgeBps, loss) {
    this.measure.classList.remove('empty');
    this.page.textContent = page;
    this.page.title = page;
    this.bridge.textContent = bridge;
    this.bridge.title = bridge;
    this.plot.add(pageBps, bridgeBps, loss);
  }
}

/** Returns the first letters of the first and the last word that begin with a letter or a digit. */
function initialsOf(name) {
  const words = name.split(/\s+/).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const shown = words.length > 1 ? [words[0], words.at(-1)] : words;
  return shown.map((word) => [...word][0].toUpperCase()).join('') || '?';
}
