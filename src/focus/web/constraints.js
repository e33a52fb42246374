// Receiver constraints: the height of video that each tile needs.

/** Usual heights of cameras and their simulcast encodings. */
const STEPS = [180, 360, 720, 1080, 2160];

/** Video may be enlarged by this factor before the next step is worth its bits. */
const ENLARGED = 1.25;

/** A higher pixel ratio is invisible, but costs four times the bits. */
const MAX_PIXEL_RATIO = 2;

/**
 * Returns the step for a tile of this many CSS pixels. The bridge sends the highest encoding that is not
 * above it, so the exact height of a tile would get the encoding below, enlarged up to twice. Steps also
 * avoid messages to the bridge while a window is being resized.
 */
export function stepFor(height, pixelRatio = window.devicePixelRatio || 1) {
  const pixels = height * Math.min(pixelRatio, MAX_PIXEL_RATIO);
  return STEPS.find((step) => step * ENLARGED >= pixels) ?? STEPS.at(-1);
}

/** Returns the name of a tile's source; `null` for this page's own. */
export function sourceOf(key) {
  const [id, screen] = key.split('/');
  return id === 'me' ? null : `${id}-${screen ? 'v1' : 'v0'}`;
}

/**
 * Returns the message for these tiles, each `{ key, kind, height }`. A source without a tile is not
 * visible yet: it gets the minimum until it has one.
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
