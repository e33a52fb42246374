// The figures in the tiles: this page's measurements beside the bridge's decisions.

import { bitrate } from '/_rialto/stats.js';

/**
 * Reasons why the bridge sends no more of a video, by the names of docs/bandwidth.md, that the viewer
 * cannot change and would take for a fault.
 */
const SHORTAGES = {
  link: 'Your connection carries no more',
  last_n: 'Others are shown instead',
  waiting_for_keyframe: 'Waiting for a whole picture',
  bridge_load: 'The bridge is busy',
};

/** The other reasons, shown among the figures only. */
const REASONS = {
  ...SHORTAGES,
  constraint: 'enough for this tile',
  not_sent: 'the sender sends no more',
  muted: 'the camera is off',
  not_wanted: 'not asked for',
};

/** Seconds before a tile shows a reason: changes take some. */
const SHORT_FOR = 3;

/** Writes one second's figures into the tiles. `bridge` is the bridge's view, or null. */
export function showFigures(tiles, peer, figures, bridge) {
  const rtt = figures.rtt === null ? '' : ` · ${Math.max(1, Math.round(figures.rtt * 1000))} ms`;
  showOwn(tiles, figures, bridge, rtt);
  const forwarded = new Map((bridge?.forwarded ?? []).map((source) => [source.source, source]));
  const short = new Map((bridge?.short ?? []).map((video) => [video.source, video]));
  const shown = new Map();
  for (const slot of peer.slots.values()) {
    const key = slot.kind === 'desktop' ? `${slot.endpoint}/screen` : slot.endpoint;
    const entry = shown.get(key) ?? { video: null, bps: 0, bridgeBps: null, lost: 0, source: null, why: null };
    const arrived = figures.in[slot.mid];
    const decided = forwarded.get(slot.source);
    entry.bps += arrived?.bps ?? 0;
    entry.lost = Math.max(entry.lost, arrived?.loss ?? 0);
    if (decided) entry.bridgeBps = (entry.bridgeBps ?? 0) + decided.bps;
    if (slot.kind !== 'audio') {
      entry.video = arrived;
      entry.source = decided;
      entry.why = short.get(slot.source) ?? null;
    }
    shown.set(key, entry);
  }
  for (const [key, { video, bps, bridgeBps, lost, source, why }] of shown) {
    const tile = tiles.get(key);
    if (!tile) continue;
    const page = `${bitrate(bps)}${size(video)} · ${(lost * 100).toFixed(1)} % lost${rtt}`;
    tile.figures(page, decision(source, bridgeBps, why), bps, bridgeBps, lost);
    tile.explain(why && SHORTAGES[why.reason] && why.seconds >= SHORT_FOR ? SHORTAGES[why.reason] : '');
  }
}

function showOwn(tiles, figures, bridge, rtt) {
  const sent = ['0', '1', '2'].reduce((bps, mid) => bps + (figures.out[mid]?.bps ?? 0), 0);
  const camera = figures.out['1'];
  const lost = camera?.loss ?? 0;
  const streams = camera?.streams > 1 ? ` ×${camera.streams}` : '';
  const text = `sends ${bitrate(sent)}${size(camera)}${streams} · ${(lost * 100).toFixed(1)} % lost${rtt}`;
  const room = figures.available ? ` · room for ${bitrate(figures.available)}` : '';
  const arrives = bridge ? `bridge gets ${bitrate(bridge.receive_bps)}${room}` : `bridge${room}`;
  tiles.get('me')?.figures(text, arrives, sent, bridge?.receive_bps ?? null, lost);
  const screen = figures.out['2'];
  const bps = screen?.bps ?? 0;
  tiles.get('me/screen')?.figures(`sends ${bitrate(bps)}${size(screen)}`, '', bps, null, 0);
}

function size(video) {
  return video?.height ? ` · ${video.width}×${video.height} ${Math.round(video.fps)} fps` : '';
}

/** Formats the bridge's decision for a source. Encodings are counted from 1 here, the best one last. */
function decision(source, bps, why) {
  const sends = bps === null ? 'bridge sends nothing yet' : `bridge sends ${bitrate(bps)}`;
  const reason = why && REASONS[why.reason] ? ` · ${REASONS[why.reason]} (${why.seconds} s)` : '';
  if (!source) return sends + reason;
  const layer = (index) => (index === null ? 'none' : index + 1);
  const target = source.target === source.current ? '' : ` → ${layer(source.target)}`;
  const height = source.height ? ` (${source.height}p)` : '';
  return `${sends} · encoding ${layer(source.current)}${target} of ${source.encodings}${height}${reason}`;
}
