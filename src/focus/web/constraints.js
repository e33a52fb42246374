// How high a picture has to be for its tile, and how the bridge is told.

/** Heights that cameras and their simulcast encodings usually have. */
const STEPS = [180, 360, 720, 1080, 2160];

/** A picture may be enlarged by so much before the next step is worth its bits. */
const ENLARGED = 1.25;

/** More pixels than this for one of the page are not told apart by eye, but cost four times the bits. */
const MAX_PIXEL_RATIO = 2;

/**
 * The step for a tile of so many CSS pixels. The bridge sends the highest encoding that is not above
 * it, so the exact height of a tile would get the encoding below, enlarged up to twice. Steps also
 * keep the bridge quiet while a window is being resized.
 */
export function stepFor(height, pixelRatio = window.devicePixelRatio || 1) {
  const pixels = height * Math.min(pixelRatio, MAX_PIXEL_RATIO);
  return STEPS.find((step) => step * ENLARGED >= pixels) ?? STEPS.at(-1);
}

/** The name of the source that a tile shows; `null` for this page's own. */
export function sourceOf(key) {
  const [id, screen] = key.split('/');
  return id === 'me' ? null : `${id}-${screen ? 'v1' : 'v0'}`;
}

/**
 * The message for these tiles, each `{ key, kind, height }`. A source without a tile is not shown
 * yet: it gets the least until it has one.
 */
export function videoConstraints(tiles, pinned) {
  const shown = tiles.filter(({ key }) => sourceOf(key));
  const named = (keep) => shown.filter(keep).map(({ key }) => sourceOf(key));
  return {
    colibriClass: 'ReceiverVideoConstraints',
    defaultConstraints: { maxHeight: STEPS[0] },
    constraints: Object.fromEntries(
      shown.map(({ key, height }) => [sourceOf(key), { maxHeight: stepFor(height) }]),
    ),
    onStageSources: named(({ key }) => key === pinned),
    selectedSources: named(({ key, kind }) => kind === 'desktop' && key !== pinned),
  };
}
