// The call: joins the room named by the address and keeps page, devices and connection in step.

import { Chat } from '/_rialto/chat.js';
import { videoConstraints } from '/_rialto/constraints.js';
import { Devices, toSpeaker } from '/_rialto/devices.js';
import { showFigures } from '/_rialto/measure.js';
import { LocalMedia, chosenDevice, explain } from '/_rialto/media.js';
import { Peer } from '/_rialto/peer.js';
import { Signal } from '/_rialto/signal.js';
import { Rates } from '/_rialto/stats.js';
import { Tiles } from '/_rialto/tiles.js';
import { Banner, noMedia, noPeer, noSignal, silence } from '/_rialto/trouble.js';

const $ = (id) => document.getElementById(id);
const room = decodeURIComponent(location.pathname.slice(1));
const query = new URLSearchParams(location.search);
/** The room without the parts that belong to this participant only. */
const address = location.origin + location.pathname;

/** How long the first connection may take before the page explains why it may fail, ms. */
const PATIENCE = 8000;
/** How long after a connection failed for good the page joins as a new participant, ms. */
const START_OVER = 10_000;
/** Seconds without a message from the bridge: until the page says so, and until it joins again. */
const SILENCE = { told: 4, over: 20 };

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
  restarts: 0,
  retry: 0,
  asked: null,
  changed: false,
  quiet: false,
  over: false,
};
const tiles = new Tiles($('stage'), askForHeights);
const media = new LocalMedia(onLocalChange);
const banner = new Banner($('trouble'), () => join());
const devices = new Devices($('devices'), media, (id) => {
  for (const element of call.audio.values()) toSpeaker(element, id);
});
const chat = new Chat($('chat'), {
  send: (message) => call.peer?.tell(message) ?? false,
  unsent: () => notice('There is no channel to the bridge: the message was not sent.'),
  shown: (shown) => {
    document.body.classList.toggle('chatting', shown);
    $('talk').setAttribute('aria-pressed', String(shown));
    $('talk').classList.remove('news');
  },
});

$('room').textContent = room;
document.title = `${room} · Rialto`;
$('address').textContent = address;
$('only-here').hidden = !/^(localhost|127\.|\[::1\])/.test(location.hostname);

// Connection -----------------------------------------------------------------------------------

function join() {
  call.over = false;
  document.body.classList.remove('over');
  $('left').hidden = true;
  status('Joining…');
  disconnect();
  call.rates = new Rates();
  call.restarts = 0;
  try {
    call.peer = new Peer({
      state: onConnection,
      candidate: (candidate) => call.signal?.send({ type: 'candidate', candidate }),
      message: onMessage,
      open: askForHeights,
    });
  } catch (error) {
    again(noPeer(error));
    return;
  }
  for (const [kind, track] of Object.entries(media.tracks)) call.peer.send(kind, track);
  call.signal = new Signal(room, call.name, {
    welcome: ({ id }) => {
      call.id = id;
      call.attempts = 0;
      // The banner about missing media stays until media flows.
      if (document.body.classList.contains('away')) banner.hide();
      document.body.classList.remove('away');
      sendState();
      expectConnection();
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
    failed: ({ message }) => (call.peer.pc.connectionState === 'failed' ? startOver() : notice(message)),
    closed: ({ message, retry }) => (retry ? again(`The bridge ended it: ${message}.`) : leave(message)),
    lost: (opened) => again(noSignal(opened)),
  });
}

function disconnect() {
  clearTimeout(call.retry);
  call.signal?.close();
  call.peer?.close();
  // A participant that joins again has another id.
  call.peers = call.peers.filter(({ id }) => id !== call.id);
  call.signal = call.peer = call.id = call.bridge = call.speaker = call.asked = null;
  for (const element of call.audio.values()) element.remove();
  call.audio.clear();
}

/** Joins again as a new participant, with growing delays. */
function again(cause) {
  if (call.over) return;
  disconnect();
  call.attempts += 1;
  const seconds = Math.min(10, 2 ** (call.attempts - 1)) / 2;
  status('Not connected', 'bad');
  document.body.classList.add('away');
  banner.show('You are not connected.', `${cause} The page joins again by itself as soon as it can.`, { retry: true });
  call.retry = setTimeout(() => !call.over && !call.signal && join(), seconds * 1000);
  render();
}

function leave(reason) {
  call.over = true;
  disconnect();
  media.close();
  devices.close();
  chat.show(false);
  banner.hide();
  tiles.keep(new Set());
  $('left-title').textContent = reason ? 'The call is over' : 'You left the call';
  $('left-reason').textContent = reason ?? '';
  $('left').hidden = false;
  document.body.classList.remove('away');
  document.body.classList.add('over');
  $('rejoin').focus();
}

async function onOffer(offer) {
  const peer = call.peer;
  if (!peer) return;
  const { sdp, encodings } = await peer.answer(offer);
  call.signal?.send({ type: 'answer', version: offer.version, sdp, encodings });
  peer.flush();
  render();
  await peer.begin((encodings) => call.signal?.send({ type: 'encodings', encodings }));
  call.offers = offer.version;
}

function onConnection(state) {
  if (state === 'connected') {
    call.restarts = 0;
    status('Connected', 'good');
    banner.hide();
  } else if (state === 'failed') {
    interrupted('The connection failed.');
    restartLater();
  } else if (state === 'unreachable') {
    interrupted('No connection is possible.');
  } else if (state === 'disconnected') {
    interrupted('The connection is interrupted.');
  } else if (state !== 'closed' && $('trouble').hidden) status('Connecting…');
}

/** Restarts ICE: at once the first time, then with growing delays, as it may fail at once each time. */
function restartLater() {
  const { signal } = call;
  const seconds = Math.min(8, 2 ** call.restarts - 1);
  call.restarts += 1;
  setTimeout(() => signal === call.signal && signal?.send({ type: 'restart' }), seconds * 1000);
}

/** ICE cannot restart for this participant: joins as a new one. */
function startOver() {
  clearTimeout(call.retry);
  call.retry = setTimeout(() => call.peer?.pc.connectionState === 'failed' && join(), START_OVER);
}

/** Signalling works and media does not flow. Later events change the cause. */
function interrupted(title) {
  if (!call.peer) return;
  status('No connection', 'bad');
  banner.show(title, `${noMedia(call.peer)} The page keeps trying.`);
}

/** Reports a connection that takes long before the browser gives it up. */
function expectConnection() {
  const { peer } = call;
  const late = () => peer === call.peer && !peer.connected && $('trouble').hidden;
  setTimeout(() => late() && interrupted('There is no connection yet.'), PATIENCE);
}

/** Pulling a cable closes no connection: the page detects it by the silence. */
function watchSignal() {
  const { signal } = call;
  if (!signal?.opened) return;
  const seconds = signal.tick();
  if (seconds > SILENCE.over) again(silence(seconds));
  else if (seconds > SILENCE.told) {
    call.quiet = true;
    status('No connection', 'bad');
    banner.show('The bridge is silent.', silence(SILENCE.told));
  } else if (call.quiet) {
    call.quiet = false;
    if (call.peer.pc.connectionState === 'connected') onConnection('connected');
  }
}

function sendState() {
  call.signal?.send({ type: 'sending', ...media.state() });
}

/** Sends one message for tracks that change together. */
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

/** Sends the bridge the heights of the tiles, if they changed and the channel is open. */
function askForHeights() {
  const wish = JSON.stringify(videoConstraints(tiles.heights(), tiles.pinned));
  if (wish !== call.asked && call.peer?.tell(JSON.parse(wish))) call.asked = wish;
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
    const tile = tiles.make(key, 'person');
    tile.title(own ? `${peer.name} (you)` : peer.name, peer.name, peer.id);
    tile.flag('mirror', own);
    tile.flag('silent', microphone !== 'on');
    const track = own ? media.tracks.camera : (received.get(`${peer.id}-v0`)?.track ?? null);
    tile.show(track, camera === 'on');
    if (own) editableName(tile);
    if (screen !== 'none') {
      keys.add(`${key}/screen`);
      const shared = tiles.make(`${key}/screen`, 'desktop');
      shared.title(own ? 'Your screen' : `${peer.name}’s screen`, peer.name, peer.id);
      shared.show(own ? media.tracks.screen : (received.get(`${peer.id}-v1`)?.track ?? null), screen === 'on');
    }
  }
  tiles.keep(keys);
  $('alone').hidden = !call.id || others.length > 0;
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
      tile.name.replaceChildren();
      const name = input.value.trim();
      if (name !== call.name) {
        call.name = name;
        localStorage.setItem('rialto.name', call.name);
        call.signal?.send({ type: 'name', name: call.name });
      }
      render();
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === 'Escape') input.value = call.name;
      if (event.key === 'Enter' || event.key === 'Escape') input.blur();
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
      toSpeaker(element, chosenDevice('speaker'));
      call.audio.set(source, element);
      document.body.append(element);
    }
    if (element.srcObject?.getAudioTracks()[0] !== track) element.srcObject = new MediaStream([track]);
    element.play().catch((error) => {
      if (error.name === 'NotAllowedError') askForSound();
    });
  }
}

/** Without a camera and without a click, a page may not play sound yet. */
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
  $('screen').hidden = !navigator.mediaDevices?.getDisplayMedia;
}

function onMessage(message) {
  const name = call.peers.find(({ id }) => id === message.from)?.name ?? message.from;
  const text = chat.heard(message, name);
  if (text === null || chat.shown) return;
  announce(`${name}: ${text}`);
  $('talk').classList.add('news');
}

async function measure() {
  const { peer, rates } = call;
  if (!peer || peer.pc.connectionState === 'closed') return;
  const figures = rates.read(await peer.pc.getStats());
  if (peer !== call.peer) return;
  call.figures = figures;
  showFigures(tiles, peer, figures, call.bridge);
}

setInterval(() => {
  watchSignal();
  measure().catch((error) => console.error(error));
}, 1000);

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

async function copyAddress({ currentTarget: button }) {
  const label = button.querySelector('span');
  try {
    await navigator.clipboard.writeText(address);
    announce('The address is copied');
    label.textContent = 'Copied';
    setTimeout(() => (label.textContent = 'Copy link'), 1500);
  } catch {
    notice(`The address is ${address}`);
  }
}

$('microphone').onclick = () => toggle('microphone');
$('camera').onclick = () => toggle('camera');
$('screen').onclick = toggleScreen;
$('plots').onclick = togglePlots;
$('talk').onclick = () => chat.show(!chat.shown);
$('setup').onclick = () => devices.open();
$('leave').onclick = () => leave();
$('rejoin').onclick = start;
$('notice').querySelector('button').onclick = () => {
  $('notice').hidden = true;
};
for (const button of document.querySelectorAll('.copy')) button.onclick = copyAddress;

/** Closes the topmost panel over the call. Returns false when none is open. */
function closeOne() {
  if (devices.shown) devices.close();
  else if (chat.shown) {
    chat.show(false);
    $('talk').focus();
  } else if (!$('notice').hidden) $('notice').hidden = true;
  else if (tiles.pinned) tiles.pin(null);
  else return false;
  return true;
}

/** Shortcuts are letters, which must not also be typed into the panel that they open. */
document.addEventListener('keydown', (event) => {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey || call.over) return;
  if (event.key === 'Escape') {
    // In full screen, the browser's own Escape leads back.
    if (!document.fullscreenElement && closeOne()) event.preventDefault();
    return;
  }
  if (event.repeat || devices.shown || event.target.closest?.('input, textarea, select')) return;
  const buttons = { m: 'microphone', v: 'camera', s: 'screen', p: 'plots', c: 'talk', d: 'setup' };
  const button = $(buttons[event.key.toLowerCase()]);
  if (!button || button.hidden) return;
  event.preventDefault();
  button.click();
});
// A page that waits for the network joins as soon as it is there.
window.addEventListener('online', () => {
  if (!call.over && (!call.signal || call.peer?.pc.connectionState === 'failed')) join();
});
window.addEventListener('pagehide', disconnect);
window.addEventListener('pageshow', ({ persisted }) => persisted && !call.over && start());

// For tests and debugging: the state of this page.
window.rialto = {
  state: () => ({
    id: call.id,
    room,
    connection: call.peer?.pc.connectionState ?? null,
    ice: call.peer?.pc.iceConnectionState ?? null,
    ufrag: call.peer?.pc.currentRemoteDescription?.sdp.match(/a=ice-ufrag:(\S+)/)?.[1] ?? null,
    offers: call.offers,
    channel: call.peer?.channel.readyState ?? null,
    chat: chat.lines,
    peers: call.peers,
    speaker: call.speaker,
    sources: [...(call.peer?.slots.values() ?? [])],
    bridge: call.bridge,
    figures: call.figures,
    asked: call.asked && JSON.parse(call.asked),
    pinned: tiles.pinned,
  }),
  tracks: () => Object.fromEntries((call.peer?.received() ?? []).map(({ source, track }) => [source, track])),
  stats: async () => [...(await call.peer.pc.getStats()).values()],
  /**
   * Sends the bridge a message over the channel: `rialto.ask({ colibriClass: 'ReceiverVideoConstraints',
   * … })`. Its heights replace those of the tiles until a tile changes its height.
   */
  ask: (message) => {
    const instead = message.colibriClass === 'ReceiverVideoConstraints' ? { constraints: {} } : {};
    call.peer?.channel.send(JSON.stringify({ ...instead, ...message }));
  },
  pin: (key) => tiles.pin(key),
  tile: (key) => tiles.get(key)?.element ?? null,
  restart: () => call.signal?.send({ type: 'restart' }),
  leave: () => leave(),
  rejoin: () => start(),
};

/** Joins at once; media follows when the user has answered the browser's permission prompt. */
async function start() {
  join();
  render();
  const problem = await media.open();
  if (problem) notice(problem);
}

start();
