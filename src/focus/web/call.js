// The call: joins the room of the address and keeps page, devices and connection in step.

import { LocalMedia, explain } from '/_rialto/media.js';
import { Peer } from '/_rialto/peer.js';
import { Signal } from '/_rialto/signal.js';
import { Rates, bitrate } from '/_rialto/stats.js';
import { Tiles } from '/_rialto/tiles.js';

const $ = (id) => document.getElementById(id);
const room = decodeURIComponent(location.pathname.slice(1));
const query = new URLSearchParams(location.search);

const call = {
  id: null,
  name: query.get('name') ?? localStorage.getItem('rialto.name') ?? '',
  peers: [],
  speaker: null,
  bridge: null,
  signal: null,
  peer: null,
  rates: null,
  figures: null,
  offers: 0,
  audio: new Map(),
  attempts: 0,
  chat: [],
  changed: false,
  over: false,
};
const tiles = new Tiles($('stage'));
const media = new LocalMedia(onLocalChange);

$('room').textContent = room;
document.title = `${room} · Rialto`;

// Connection -----------------------------------------------------------------------------------

function join() {
  call.over = false;
  document.body.classList.remove('over');
  $('left').hidden = true;
  status('Joining…');
  disconnect();
  call.rates = new Rates();
  call.peer = new Peer({
    state: onConnection,
    candidate: (candidate) => call.signal?.send({ type: 'candidate', candidate }),
    message: onMessage,
  });
  for (const [kind, track] of Object.entries(media.tracks)) call.peer.send(kind, track);
  call.signal = new Signal(room, call.name, {
    welcome: ({ id }) => {
      call.id = id;
      call.attempts = 0;
      sendState();
    },
    offer: onOffer,
    peers: onPeers,
    speaker: ({ id }) => {
      call.speaker = id;
      markSpeaker();
    },
    bridge: (view) => {
      call.bridge = view;
    },
    failed: ({ message }) => notice(message),
    closed: ({ message, retry }) => (retry ? again(message) : leave(message)),
    lost: () => again('The connection to the bridge was lost.'),
  });
}

function disconnect() {
  call.signal?.close();
  call.peer?.close();
  call.signal = call.peer = call.id = call.bridge = call.speaker = null;
  for (const element of call.audio.values()) element.remove();
  call.audio.clear();
}

/** Joins again as a new participant, later and later. */
function again(message) {
  if (call.over) return;
  disconnect();
  call.attempts += 1;
  const seconds = Math.min(10, 2 ** (call.attempts - 1)) / 2;
  status('Joining again…', 'bad');
  announce(message);
  setTimeout(() => !call.over && !call.signal && join(), seconds * 1000);
}

function leave(reason) {
  call.over = true;
  disconnect();
  media.close();
  tiles.keep(new Set());
  $('left-title').textContent = reason ? 'The call is over' : 'You left the call';
  $('left-reason').textContent = reason ?? '';
  $('left').hidden = false;
  document.body.classList.add('over');
  $('rejoin').focus();
}

async function onOffer(offer) {
  const peer = call.peer;
  if (!peer) return;
  const { sdp, encodings } = await peer.answer(offer);
  call.offers = offer.version;
  call.signal?.send({ type: 'answer', version: offer.version, sdp, encodings });
  peer.flush();
  render();
}

function onConnection(state) {
  if (state === 'connected') status('Connected', 'good');
  else if (state === 'failed') {
    status('Connecting again…', 'bad');
    call.signal?.send({ type: 'restart' });
  } else if (state === 'disconnected') status('Connection interrupted', 'bad');
  else if (state !== 'closed') status('Connecting…');
}

function sendState() {
  call.signal?.send({ type: 'sending', ...media.state() });
}

/** Tracks that come together are told together. */
function onLocalChange(kind) {
  call.peer?.send(kind, media.tracks[kind]);
  if (call.changed) return;
  call.changed = true;
  queueMicrotask(() => {
    call.changed = false;
    sendState();
    render();
  });
}

// What is shown --------------------------------------------------------------------------------

function onPeers({ peers }) {
  const before = new Map(call.peers.map((peer) => [peer.id, peer.name]));
  call.peers = peers;
  const joined = peers.filter(({ id }) => !before.has(id) && id !== call.id);
  peers.forEach(({ id }) => before.delete(id));
  if (joined.length && before.size + joined.length < 5) announce(`${joined.map(({ name }) => name).join(', ')} joined`);
  else if (before.size) announce(`${[...before.values()].join(', ')} left`);
  render();
}

function render() {
  if (call.over) return;
  const received = new Map((call.peer?.received() ?? []).map((slot) => [slot.source, slot]));
  const keys = new Set();
  const me = { id: call.id ?? 'me', name: call.name || 'Guest', sending: media.state() };
  const others = call.peers.filter(({ id }) => id !== call.id);
  for (const peer of [me, ...others]) {
    const own = peer === me;
    const { microphone, camera, screen } = peer.sending;
    const key = own ? 'me' : peer.id;
    keys.add(key);
    const tile = tiles.get(key, 'person');
    tile.title(own ? `${peer.name} (you)` : peer.name, peer.id);
    tile.flag('mirror', own);
    tile.flag('silent', microphone !== 'on');
    const track = own ? media.tracks.camera : (received.get(`${peer.id}-v0`)?.track ?? null);
    tile.show(track, camera === 'on');
    if (own) editableName(tile);
    if (screen !== 'none') {
      keys.add(`${key}/screen`);
      const shared = tiles.get(`${key}/screen`, 'desktop');
      shared.title(own ? 'Your screen' : `${peer.name}’s screen`, peer.id);
      shared.show(own ? media.tracks.screen : (received.get(`${peer.id}-v1`)?.track ?? null), screen === 'on');
    }
  }
  tiles.keep(keys);
  playAudio([...received.values()].filter(({ kind }) => kind === 'audio'));
  renderButtons();
  markSpeaker();
}

function editableName(tile) {
  if (tile.name.querySelector('input, button')) return;
  const button = Object.assign(document.createElement('button'), {
    type: 'button',
    textContent: `${call.name || 'Guest'} (you)`,
    title: 'Change your name',
  });
  button.onclick = () => {
    const input = Object.assign(document.createElement('input'), { value: call.name, maxLength: 64, ariaLabel: 'Your name' });
    input.onblur = () => {
      call.name = input.value.trim();
      localStorage.setItem('rialto.name', call.name);
      call.signal?.send({ type: 'name', name: call.name });
      tile.name.replaceChildren();
      render();
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === 'Enter') input.blur();
    };
    tile.name.replaceChildren(input);
    input.focus();
  };
  tile.name.replaceChildren(button);
}

function playAudio(slots) {
  const wanted = new Set(slots.map(({ source }) => source));
  for (const [source, element] of call.audio) {
    if (wanted.has(source)) continue;
    element.remove();
    call.audio.delete(source);
  }
  for (const { source, track } of slots) {
    let element = call.audio.get(source);
    if (!element) {
      element = document.createElement('audio');
      element.autoplay = true;
      call.audio.set(source, element);
      document.body.append(element);
    }
    if (element.srcObject?.getAudioTracks()[0] !== track) element.srcObject = new MediaStream([track]);
    element.play().catch((error) => {
      if (error.name === 'NotAllowedError') askForSound();
    });
  }
}

/** A page without a camera and without a click may not play sound yet. */
function askForSound() {
  notice('Click anywhere to hear the others.');
  const play = () => {
    for (const element of call.audio.values()) element.play().catch(() => {});
    $('notice').hidden = true;
  };
  document.addEventListener('pointerdown', play, { once: true });
  document.addEventListener('keydown', play, { once: true });
}

function markSpeaker() {
  for (const [key, tile] of tiles.tiles) {
    const id = key === 'me' ? call.id : key;
    tile.flag('speaking', id !== null && id === call.speaker);
  }
}

function renderButtons() {
  const { microphone, camera, screen } = media.state();
  const names = { microphone: 'microphone', camera: 'camera' };
  for (const [kind, state] of [['microphone', microphone], ['camera', camera]]) {
    const button = $(kind);
    button.classList.toggle('muted', state !== 'on');
    button.setAttribute('aria-pressed', String(state === 'on'));
    button.setAttribute('aria-label', `${state === 'on' ? 'Mute' : 'Unmute'} ${names[kind]}`);
  }
  $('screen').setAttribute('aria-pressed', String(screen === 'on'));
  $('screen').setAttribute('aria-label', screen === 'on' ? 'Stop sharing' : 'Share a screen');
  $('screen').disabled = !navigator.mediaDevices?.getDisplayMedia;
}

// Chat, from page to page over the bridge channel ------------------------------------------------

function onMessage({ colibriClass, from, msgPayload }) {
  if (colibriClass !== 'EndpointMessage' || typeof msgPayload?.chat !== 'string') return;
  const name = call.peers.find(({ id }) => id === from)?.name ?? from;
  chat(name, msgPayload.chat);
  if ($('chat').hidden) announce(`${name}: ${msgPayload.chat}`);
  $('talk').classList.toggle('news', $('chat').hidden);
}

function say(text) {
  const said = call.peer?.tell({ colibriClass: 'EndpointMessage', to: '', msgPayload: { chat: text } }) ?? false;
  if (said) chat('You', text);
  else notice('There is no channel to the bridge: the message was not sent.');
  return said;
}

function chat(name, text) {
  call.chat.push({ name, text });
  const line = document.createElement('li');
  line.append(Object.assign(document.createElement('b'), { textContent: name }), ` ${text}`);
  $('said').append(line);
  while ($('said').children.length > 200) $('said').firstChild.remove();
  call.chat.splice(0, call.chat.length - 200);
  line.scrollIntoView({ block: 'end' });
}

function toggleChat() {
  const shown = ($('chat').hidden = !$('chat').hidden) === false;
  $('talk').setAttribute('aria-pressed', String(shown));
  $('talk').classList.remove('news');
  if (shown) $('say').focus();
}

// Measurements ---------------------------------------------------------------------------------

async function measure() {
  const { peer, rates } = call;
  if (!peer || peer.pc.connectionState === 'closed') return;
  const figures = rates.read(await peer.pc.getStats());
  if (peer !== call.peer) return;
  call.figures = figures;
  const rtt = figures.rtt === null ? '' : ` · ${Math.max(1, Math.round(figures.rtt * 1000))} ms`;
  measureSelf(figures, rtt);
  const forwarded = new Map((call.bridge?.forwarded ?? []).map((source) => [source.source, source]));
  const shown = new Map();
  for (const slot of peer.slots.values()) {
    const key = slot.kind === 'desktop' ? `${slot.endpoint}/screen` : slot.endpoint;
    const entry = shown.get(key) ?? { video: null, bps: 0, bridgeBps: null, lost: 0, source: null };
    const arrived = figures.in[slot.mid];
    const decided = forwarded.get(slot.source);
    entry.bps += arrived?.bps ?? 0;
    entry.lost = Math.max(entry.lost, arrived?.loss ?? 0);
    if (decided) entry.bridgeBps = (entry.bridgeBps ?? 0) + decided.bps;
    if (slot.kind !== 'audio') {
      entry.video = arrived;
      entry.source = decided;
    }
    shown.set(key, entry);
  }
  for (const [key, { video, bps, bridgeBps, lost, source }] of shown) {
    const tile = tiles.tiles.get(key);
    if (!tile) continue;
    const page = `${bitrate(bps)}${size(video)} · ${(lost * 100).toFixed(1)} % lost${rtt}`;
    tile.figures(page, decision(source, bridgeBps), bps, bridgeBps, lost);
  }
}

function measureSelf(figures, rtt) {
  const bridge = call.bridge;
  const sum = (mids) => mids.reduce((bps, mid) => bps + (figures.out[mid]?.bps ?? 0), 0);
  const camera = figures.out['1'];
  const text = `sends ${bitrate(sum(['0', '1', '2']))}${size(camera)}${camera?.streams > 1 ? ` ×${camera.streams}` : ''} · ${((camera?.loss ?? 0) * 100).toFixed(1)} % lost${rtt}`;
  const room = figures.available ? ` · room for ${bitrate(figures.available)}` : '';
  const arrives = bridge ? `bridge gets ${bitrate(bridge.receive_bps)}${room}` : `bridge${room}`;
  tiles.tiles.get('me')?.figures(text, arrives, sum(['0', '1', '2']), bridge?.receive_bps ?? null, camera?.loss ?? 0);
  const screen = figures.out['2'];
  tiles.tiles.get('me/screen')?.figures(`sends ${bitrate(screen?.bps ?? 0)}${size(screen)}`, '', screen?.bps ?? 0, null, 0);
}

function size(video) {
  return video?.height ? ` · ${video.width}×${video.height} ${Math.round(video.fps)} fps` : '';
}

/** What the bridge decided for a source. Encodings are counted from 1 here, the best one last. */
function decision(source, bps) {
  const sends = bps === null ? 'bridge sends nothing yet' : `bridge sends ${bitrate(bps)}`;
  if (!source) return sends;
  const layer = (index) => (index === null ? 'none' : index + 1);
  const target = source.target === source.current ? '' : ` → ${layer(source.target)}`;
  const height = source.height ? ` (${source.height}p)` : '';
  return `${sends} · encoding ${layer(source.current)}${target} of ${source.encodings}${height}`;
}

setInterval(() => measure().catch((error) => console.error(error)), 1000);

// Messages and controls ------------------------------------------------------------------------

function status(text, mood = '') {
  $('state').textContent = text;
  $('state').className = mood;
}

function notice(text) {
  $('notice').querySelector('span').textContent = text;
  $('notice').hidden = false;
}

function announce(text) {
  $('announce').textContent = text;
}

async function toggle(kind) {
  try {
    await media.toggle(kind);
  } catch (error) {
    notice(`No ${kind}: ${explain(error)}`);
  }
}

async function toggleScreen() {
  if (media.tracks.screen) return media.stop('screen');
  try {
    await media.share();
  } catch (error) {
    if (error.name !== 'NotAllowedError') notice(`The screen cannot be shared: ${explain(error)}.`);
  }
}

function togglePlots() {
  const shown = !document.body.classList.toggle('no-plots');
  $('plots').setAttribute('aria-pressed', String(shown));
}

$('microphone').onclick = () => toggle('microphone');
$('camera').onclick = () => toggle('camera');
$('screen').onclick = toggleScreen;
$('plots').onclick = togglePlots;
$('talk').onclick = toggleChat;
$('chat').querySelector('form').onsubmit = (event) => {
  event.preventDefault();
  const text = $('say').value.trim();
  if (text && say(text)) $('say').value = '';
};
$('leave').onclick = () => leave();
$('rejoin').onclick = start;
$('notice').querySelector('button').onclick = () => {
  $('notice').hidden = true;
};
$('copy').onclick = async () => {
  try {
    await navigator.clipboard.writeText(location.origin + location.pathname);
    announce('The link is copied');
    $('copy').textContent = 'Copied';
    setTimeout(() => ($('copy').textContent = 'Copy link'), 1500);
  } catch {
    notice(`The link is ${location.origin}${location.pathname}`);
  }
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || call.over || event.target.matches('input')) return;
  const action = { m: $('microphone'), v: $('camera'), s: $('screen'), p: $('plots'), c: $('talk') }[event.key.toLowerCase()];
  if (action && !action.disabled) action.click();
});
window.addEventListener('pagehide', disconnect);
window.addEventListener('pageshow', ({ persisted }) => persisted && !call.over && start());

// For tests and for the curious: what this page knows.
window.rialto = {
  state: () => ({
    id: call.id,
    room,
    connection: call.peer?.pc.connectionState ?? null,
    ice: call.peer?.pc.iceConnectionState ?? null,
    ufrag: call.peer?.pc.currentRemoteDescription?.sdp.match(/a=ice-ufrag:(\S+)/)?.[1] ?? null,
    offers: call.offers,
    channel: call.peer?.channel.readyState ?? null,
    chat: call.chat,
    peers: call.peers,
    speaker: call.speaker,
    sources: [...(call.peer?.slots.values() ?? [])],
    bridge: call.bridge,
    figures: call.figures,
  }),
  tracks: () => Object.fromEntries((call.peer?.received() ?? []).map(({ source, track }) => [source, track])),
  stats: async () => [...(await call.peer.pc.getStats()).values()],
  /** Tells the bridge something over its channel: `rialto.ask({ colibriClass: 'ReceiverVideoConstraints', … })`. */
  ask: (message) => call.peer?.channel.send(JSON.stringify(message)),
  restart: () => call.signal?.send({ type: 'restart' }),
  leave: () => leave(),
  rejoin: () => start(),
};

/** Joins at once; what this page sends comes when the user has answered the browser's question. */
async function start() {
  join();
  render();
  const problem = await media.open();
  if (problem) notice(problem);
}

start();
