// The status page: fetches the status every second and shows it.

import { bits, count, delay, duration, make, many, percent, say, sync, write } from '/_rialto/status-draw.js';
import { Plot } from '/_rialto/status-plot.js';

const PERIOD_MS = 1000;
const at = (id) => document.getElementById(id);

/** Reasons that no participant chose. */
const SHORT = new Set(['link', 'waiting_for_keyframe', 'bridge_load']);

function meter(label) {
  const fill = make('span', 'fill');
  const element = make('div', 'meter', fill);
  element.setAttribute('role', 'img');
  return {
    element,
    set(fraction, high) {
      fill.style.width = `${Math.min(1, Math.max(0, fraction)) * 100}%`;
      element.classList.toggle('high', high);
      element.setAttribute('aria-label', `${label}: ${percent(fraction)}`);
    },
  };
}

/** A figure with its plot. */
function card(title, floor, compared = false) {
  const value = make('b', compared ? 'key' : '');
  const beside = make('span', compared ? 'dim key second' : 'dim');
  const plot = new Plot(floor);
  const element = make('article', 'card', make('h3', '', title), make('p', 'figure', value, ' ', beside), plot.element);
  return {
    element,
    set(number, text, other = null, otherText = '', bad = false) {
      write(value, text);
      write(beside, otherText);
      element.classList.toggle('bad', bad);
      plot.add(number, other, `${title}: ${text}${otherText ? `, ${otherText}` : ''}`);
    },
  };
}

const figures = {
  sent: card('Media sent', 1e5, true),
  load: card('Load', 1),
  delay: card('Delay, 99 %', 1000),
  drops: card('Drops', 5),
};
at('figures').append(...Object.values(figures).map(({ element }) => element));

function showFigures(status) {
  figures.sent.set(status.send_bps, bits(status.send_bps), status.receive_bps, `${bits(status.receive_bps)} received`);
  const limited = status.last_n_by_load === null ? '' : `at most ${status.last_n_by_load} videos each`;
  figures.load.set(status.stress, percent(status.stress), null, limited, status.stress >= 1);
  const delays = status.shards.map((shard) => shard.delay).filter((one) => one !== null);
  const slowest = delays.reduce((worst, { p99_us: us }) => (us === null ? Infinity : Math.max(worst, us)), 0);
  const words = delays.length ? delay(slowest === Infinity ? null : slowest) : 'nothing forwarded';
  figures.delay.set(Math.min(slowest, 1e6), words, null, '', slowest > 50_000);
  const drops = status.shards.reduce((sum, shard) => sum + shard.drops_per_second, 0);
  const dropped = status.shards.reduce((sum, shard) => sum + shard.dropped, 0);
  figures.drops.set(drops, `${count(drops)}/s`, null, `${count(dropped)} in all`);
}

function shardView({ shard }) {
  const busy = meter('busy');
  const load = make('b');
  const plot = new Plot(1);
  const facts = make('p', 'facts');
  const drops = make('ul', 'drops');
  const reasons = new Map();
  const details = make('details', '', make('summary', '', 'Drops'), drops);
  const summary = details.querySelector('summary');
  const silent = make('p', 'warn');
  const title = make('h3', '', `Shard ${shard} `, load);
  return {
    element: make('article', 'card', title, busy.element, plot.element, facts, silent, details),
    update(now) {
      write(load, percent(now.busy));
      busy.set(now.busy, now.busy > 0.85);
      plot.add(now.busy, null, `busy: ${percent(now.busy)}`);
      const took = now.delay ? `${delay(now.delay.p50_us)}, 99 % ${delay(now.delay.p99_us)}` : 'none';
      write(facts, [
        many(now.endpoints, 'endpoint'),
        `${count(now.receive_pps)} packets/s in, ${count(now.send_pps)} out`,
        `delay ${took}`,
        `at most ${many(now.waiting_commands, 'command')} and ${many(now.waiting_batches, 'batch')} waited`,
      ].join(' · '));
      const late = now.reported_ms_ago > 3000;
      say(silent, late ? `silent for ${duration(Math.round(now.reported_ms_ago / 1000))}` : null);
      write(summary, `Drops: ${count(now.drops_per_second)}/s, ${count(now.dropped)} in all`);
      sync(drops, reasons, now.drops, ({ reason }) => reason, () => {
        const element = make('li');
        return {
          element,
          update: ({ reason, total, per_second: rate }) => write(element, `${reason}: ${count(rate)}/s, ${count(total)}`),
        };
      });
    },
  };
}

/** Returns a conference's name for people: the room without its server. */
const nameOf = ({ name, meeting_id: meeting, id }) => name?.split('@')[0] || meeting || id;

function conferenceView({ id }) {
  const name = make('b');
  const facts = make('span', 'dim');
  const short = make('span', 'pill warn');
  const element = make('a', 'conference', name, facts, short);
  element.href = `#${encodeURIComponent(id)}`;
  return {
    element,
    update(now) {
      write(name, nameOf(now));
      element.title = now.name ?? now.meeting_id;
      write(facts, `${many(now.endpoints, 'endpoint')}, ${bits(now.send_bps)}`);
      say(short, now.shortages ? `${count(now.shortages)} short` : null);
      if (shownId === id) element.setAttribute('aria-current', 'true');
      else element.removeAttribute('aria-current');
    },
  };
}

function videoView() {
  const [name, sent, rate, why] = [make('span', 'name'), make('span'), make('span'), make('span', 'pill')];
  return {
    element: make('li', '', name, sent, rate, why),
    update(now) {
      write(name, now.name);
      const height = now.height ? `${now.height}p` : now.sent && `layer ${now.sent}`;
      const wanted = now.wanted_height ? ` of ${now.wanted_height}p` : '';
      write(sent, now.sent ? `${height}${wanted}` : `nothing${wanted}`);
      write(rate, now.sent ? bits(now.bps) : '');
      write(why, now.reason === 'none' ? now.why : `${now.why}, ${duration(Math.floor(now.since_ms / 1000))}`);
      why.className = `pill ${SHORT.has(now.reason) ? 'warn' : now.reason === 'none' ? 'good' : ''}`;
    },
  };
}

function endpointView() {
  const [id, stats, state, speaks] = [make('b'), make('span', 'dim'), make('span', 'pill'), make('span', 'pill good', 'speaks')];
  const why = make('p', 'pill why');
  const [sends, gets, estimate] = [make('dd'), make('dd'), make('dd')];
  const plot = new Plot(64_000);
  const list = make('ul', 'videos');
  const videos = new Map();
  const more = make('p', 'dim');
  const row = (name, value, key = '') => make('div', '', make('dt', key, name), value);
  return {
    element: make('article', 'card endpoint',
      make('h3', '', id, stats, speaks, state),
      make('dl', '', row('Sends', sends), row('Is sent', gets, 'key'), row('Its link', estimate, 'key second')),
      make('div', 'told', plot.element, why), list, more),
    update(now) {
      write(id, now.id);
      say(stats, now.stats_id && now.stats_id !== now.id ? now.stats_id : null);
      const up = now.transport === 'READY' && !now.inactive;
      say(state, up ? null : now.inactive ? 'inactive' : now.transport.toLowerCase());
      state.classList.toggle('warn', !up);
      speaks.hidden = !now.dominant;
      write(sends, `${bits(now.receive_bps)}, lost ${percent(now.receive_loss)}`);
      write(gets, `${bits(now.send_bps)}, lost ${percent(now.send_loss)}`);
      const carries = now.estimate_bps === null ? 'no estimate yet' : `carries ${bits(now.estimate_bps)}`;
      const trip = now.rtt_ms === null ? '' : `, ${now.rtt_ms.toFixed(now.rtt_ms < 10 ? 1 : 0)}\u00a0ms`;
      write(estimate, `${carries}${trip}`);
      plot.add(now.send_bps, now.estimate_bps, `sent ${bits(now.send_bps)}, ${carries}`);
      write(why, now.why);
      why.className = `pill why ${SHORT.has(now.reason) ? 'warn' : now.reason === 'none' ? 'good' : ''}`;
      sync(list, videos, now.videos, ({ name }) => name, videoView);
      say(more, now.more_videos ? `and ${count(now.more_videos)} videos that lack no more than these` : null);
    },
  };
}

const views = { shards: new Map(), conferences: new Map(), endpoints: new Map() };
let shownId = null;

function showCalls(status) {
  const { shown } = status;
  if (shown?.summary.id !== shownId) {
    shownId = shown?.summary.id ?? null;
    views.endpoints.clear();
    at('endpoints').replaceChildren();
  }
  sync(at('conferences'), views.conferences, status.conferences, ({ id }) => id, conferenceView);
  at('no-conferences').hidden = status.conferences.length > 0;
  const unlisted = status.more_conferences;
  say(at('more-conferences'), unlisted ? `and ${count(unlisted)} that are no larger` : null);
  at('shown').hidden = !shown;
  if (!shown) return;
  const { summary } = shown;
  write(at('shown-title'), nameOf(summary));
  const age = duration(Math.max(0, Math.round((status.time - summary.created) / 1000)));
  write(at('shown-facts'), `${summary.name ?? summary.meeting_id} · ${summary.id} · for ${age} · `
    + `${bits(summary.receive_bps)} received, ${bits(summary.send_bps)} sent`);
  const endpoints = shown.endpoints.map((one) => ({ ...one, dominant: one.id === shown.dominant }));
  sync(at('endpoints'), views.endpoints, endpoints, ({ id }) => id, endpointView);
  say(at('more-endpoints'), shown.more ? `and ${count(shown.more)} endpoints that lack no more than these` : null);
}

function show(status) {
  const { health } = status;
  write(at('health'), health.ok ? 'Healthy' : `Not healthy: ${health.cause}`);
  at('health').className = `pill ${health.ok ? 'good' : 'bad'}`;
  const states = { GRACEFUL_SHUTDOWN: 'ends when its calls have', SHUTTING_DOWN: 'shuts down' };
  write(at('facts'), [
    status.version, status.region, `up ${duration(status.uptime_s)}`,
    many(status.endpoints, 'endpoint'), status.drain && 'drains', states[status.state],
  ].filter(Boolean).join(' · '));
  showFigures(status);
  sync(at('shards'), views.shards, status.shards, ({ shard }) => shard, shardView);
  showCalls(status);
  at('status').hidden = false;
}

/** The conference named in the address. */
function asked() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return '';
  }
}

async function ask() {
  const wanted = asked();
  const query = wanted ? `?${new URLSearchParams({ conference: wanted })}` : '';
  const token = sessionStorage.getItem('rialto.token');
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(`/_rialto/status.json${query}`, { headers, cache: 'no-store' });
  if (response.status === 401) {
    at('login').hidden = false;
    at('status').hidden = true;
    at('refused').hidden = !token;
    say(at('health'), 'Locked');
    sessionStorage.removeItem('rialto.token');
    return false;
  }
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  const status = await response.json();
  if (wanted && wanted !== asked()) return true;
  if (wanted && !status.shown) {
    // The conference has ended: show the largest from now on.
    history.replaceState(null, '', location.pathname);
  }
  at('login').hidden = true;
  show(status);
  return true;
}

let timer = null;
let asking = false;

async function tick() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  let again = true;
  try {
    // A hidden page fetches nothing.
    if (!document.hidden) {
      again = await ask();
      say(at('trouble'), null);
      document.body.classList.remove('stale');
    }
  } catch (error) {
    say(at('trouble'), `The bridge does not answer (${error.message}). What is below was so before.`);
    document.body.classList.add('stale');
  }
  asking = false;
  if (again) timer = setTimeout(tick, PERIOD_MS);
}

at('login').addEventListener('submit', (event) => {
  event.preventDefault();
  const token = at('token').value.trim();
  at('token').value = '';
  // Headers and tokens may have no other characters.
  const fit = /^[\x21-\x7e]+$/.test(token);
  at('refused').hidden = fit;
  if (!fit) return;
  sessionStorage.setItem('rialto.token', token);
  tick();
});
addEventListener('hashchange', tick);
document.addEventListener('visibilitychange', tick);
tick();
