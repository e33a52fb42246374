// Tiles: one for each participant and one for each shared screen, arranged so that they are as large
// as the window allows. Shared screens stand beside a strip of the people.

import { Plot } from '/_rialto/plot.js';

const GAP = 8;
const RATIO = 16 / 9;

export class Tiles {
  constructor(stage) {
    this.stage = stage;
    this.tiles = new Map();
    new ResizeObserver(() => this.arrange()).observe(stage);
  }

  /** The tile of a key, made when it is new. */
  get(key, kind) {
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = new Tile(kind);
      this.tiles.set(key, tile);
      this.stage.append(tile.element);
      this.arrange();
    }
    return tile;
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
    if (removed) this.arrange();
  }

  arrange() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const all = [...this.tiles.values()];
    const screens = all.filter((tile) => tile.kind === 'desktop');
    const people = all.filter((tile) => tile.kind !== 'desktop');
    if (!screens.length) {
      grid(people, 0, 0, width, height);
    } else if (width > height * 1.2) {
      const strip = people.length ? Math.min(240, width * 0.25) : 0;
      grid(screens, 0, 0, width - strip - (strip && GAP), height, null);
      grid(people, width - strip, 0, strip, height);
    } else {
      const strip = people.length ? Math.min(150, height * 0.25) : 0;
      grid(screens, 0, 0, width, height - strip - (strip && GAP), null);
      grid(people, 0, height - strip, width, strip);
    }
  }
}

/** Puts tiles into a rectangle with the number of columns that makes them largest. */
function grid(tiles, left, top, width, height, ratio = RATIO) {
  const count = tiles.length;
  let best = null;
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    let w = (width - GAP * (columns - 1)) / columns;
    let h = (height - GAP * (rows - 1)) / rows;
    // A tile may be a little off the ratio of a camera, so that little of the window is left over.
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
    Object.assign(tile.element.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${w}px`,
      height: `${h}px`,
    });
  });
}

class Tile {
  constructor(kind) {
    this.kind = kind;
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
    this.element.append(this.video, avatar, this.label, this.measure);
  }

  /** Shows a name, and initials on a colour of their own. */
  title(text, id) {
    if (!this.name.querySelector('input, button')) this.name.textContent = text;
    this.element.setAttribute('aria-label', text);
    const words = text.split(/\s+/).filter(Boolean);
    this.initials.textContent = words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join('');
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

  flag(name, on) {
    this.element.classList.toggle(name, on);
  }

  /** One second's figures: `page` and `bridge` are texts. */
  figures(page, bridge, pageBps, bridgeBps, loss) {
    this.measure.classList.remove('empty');
    this.page.textContent = page;
    this.page.title = page;
    this.bridge.textContent = bridge;
    this.bridge.title = bridge;
    this.plot.add(pageBps, bridgeBps, loss);
  }
}
