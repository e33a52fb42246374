// Loaded after participant.js in the tests of calls over Prosody: a client as Jitsi's are. It speaks XMPP over a
// WebSocket, asks the focus for the conference, enters its room, and answers the session that the focus offers.
// `JITSI` is put in front by the test: { domain, focus }. What Jingle says in XML goes as JSON in its elements
// here, in the words of COLIBRI2; descriptions are made of it on this side, as lib-jitsi-meet does.

(() => {
  const { domain, focus } = JITSI;
  const ICE = 'urn:xmpp:jingle:transports:ice-udp:1';
  const OWN = { audio: '0', camera: '1', desktop: '2' };
  /** Payload types of Jitsi: of the codec and of its retransmissions. */
  const VIDEO = { AV1: [41, 42], VP9: [101, 97], VP8: [100, 96], H264: [107, 99] };
  const PARAMETERS = { VP9: 'profile-id=0', H264: 'level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f' };
  const OPUS = 111;
  const RED = 112;
  const FEEDBACK = [{ type: 'transport-cc' }, { type: 'ccm', subtype: 'fir' }, { type: 'nack' }, { type: 'nack', subtype: 'pli' }];
  const EXTENSIONS = {
    level: [1, 'urn:ietf:params:rtp-hdrext:ssrc-audio-level'],
    time: [3, 'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time'],
    wide: [5, 'http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01'],
    mid: [10, 'urn:ietf:params:rtp-hdrext:sdes:mid'],
    descriptor: [11, 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension'],
    rid: [12, 'urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id'],
  };
  const RIDS = ['1', '2', '3'];
  /** How many sections somebody has who goes by MIDs. */
  const SLOTS = 3;

  // XMPP ---------------------------------------------------------------------------------------

  const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
  const asJson = (value) => `<json xmlns='urn:xmpp:json:0'>${escaped(JSON.stringify(value))}</json>`;
  const ofJson = (element) => JSON.parse(element.getElementsByTagName('json')[0].textContent);

  class Stream {
    /** `on(element)`: a stanza that nobody waits for. */
    constructor(on) {
      this.waiting = [];
      this.ids = 0;
      this.socket = new WebSocket(`ws://${location.host}/xmpp-websocket`, 'xmpp');
      this.socket.onmessage = ({ data }) => {
        const element = new DOMParser().parseFromString(data, 'text/xml').documentElement;
        const at = this.waiting.findIndex(({ wanted }) => wanted(element));
        if (at >= 0) this.waiting.splice(at, 1)[0].resolve(element);
        else on(element);
      };
    }

    send(text) {
      this.socket.send(text);
    }

    next(wanted) {
      return new Promise((resolve) => this.waiting.push({ wanted, resolve }));
    }

    async ask(to, inside) {
      this.ids += 1;
      const id = `c${this.ids}`;
      const answer = this.next((element) => element.localName === 'iq' && element.getAttribute('id') === id);
      this.send(`<iq xmlns='jabber:client' type='set' id='${id}' ${to ? `to='${to}'` : ''}>${inside}</iq>`);
      const found = await answer;
      if (found.getAttribute('type') !== 'result') throw new Error(found.outerHTML);
      return found;
    }

    async negotiate() {
      this.send(`<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='${domain}' version='1.0'/>`);
      await this.next((element) => element.localName === 'features');
    }

    async logIn() {
      await new Promise((resolve) => this.socket.addEventListener('open', resolve));
      await this.negotiate();
      this.send(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>`);
      await this.next((element) => element.localName === 'success');
      await this.negotiate();
      await this.ask(null, `<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>`);
    }
  }

  // Descriptions -------------------------------------------------------------------------------

  /** What one offers and takes, in the words of COLIBRI2. */
  function medias({ codec, red, mids, simulcast }) {
    const opus = {
      id: OPUS, name: 'opus', clockrate: 48000, channels: 2, parameters: { minptime: 10, useinbandfec: 1 },
      'rtcp-fbs': [{ type: 'transport-cc' }],
    };
    const redundant = { id: RED, name: 'red', clockrate: 48000, channels: 2, parameters: { null: `${OPUS}/${OPUS}` } };
    const types = [codec, ...Object.keys(VIDEO).filter((name) => name !== codec)].flatMap((name) => {
      const [pt, rtx] = VIDEO[name];
      const parameters = Object.fromEntries((PARAMETERS[name] ?? '').split(';').filter(Boolean).map((p) => p.split('=')));
      const again = { id: rtx, name: 'rtx', clockrate: 90000, parameters: { apt: pt } };
      return [{ id: pt, name, clockrate: 90000, parameters, 'rtcp-fbs': FEEDBACK }, again];
    });
    const named = (names) => names.map((name) => ({ id: EXTENSIONS[name][0], uri: EXTENSIONS[name][1] }));
    const both = mids ? ['wide', 'mid'] : ['wide'];
    // As lib-jitsi-meet has it: the descriptor is for AV1.
    const own = [...(codec === 'AV1' ? ['descriptor'] : []), ...(simulcast ? ['rid'] : [])];
    return [
      { type: 'audio', 'extmap-allow-mixed': true, 'payload-types': red ? [redundant, opus] : [opus], 'rtp-hdrexts': named(['level', ...both]) },
      { type: 'video', 'extmap-allow-mixed': true, 'payload-types': types, 'rtp-hdrexts': named(['time', ...both, ...own]) },
    ];
  }

  function formats({ 'payload-types': types, 'rtp-hdrexts': extensions }) {
    const lines = extensions.map(({ id, uri }) => `a=extmap:${id} ${uri}`);
    for (const { id, name, clockrate, channels, parameters, 'rtcp-fbs': feedback } of types) {
      lines.push(`a=rtpmap:${id} ${name}/${clockrate}${channels ? `/${channels}` : ''}`);
      for (const { type, subtype } of feedback ?? []) lines.push(`a=rtcp-fb:${id} ${type}${subtype ? ` ${subtype}` : ''}`);
      const given = Object.entries(parameters ?? {}).map(([key, value]) => (key === 'null' ? value : `${key}=${value}`));
      if (given.length) lines.push(`a=fmtp:${id} ${given.join(';')}`);
    }
    return lines;
  }

  /** The first stream of a source, which is what the others get, and its retransmissions. */
  function streams({ sources, 'ssrc-groups': groups = [] }) {
    const number = (stream) => stream.ssrc ?? stream;
    const ssrc = number(groups.find(({ semantics }) => semantics === 'SIM')?.sources[0] ?? sources[0]);
    const pair = groups.find((group) => group.semantics === 'FID' && number(group.sources[0]) === ssrc);
    return { ssrc, rtx: pair ? number(pair.sources[1]) : null };
  }

  const group = (semantics, sources) => ({ semantics, sources });

  /** A source of ours, of these encodings. */
  function ownSource(name, type, videoType, encodings) {
    const ssrcs = encodings.flatMap(({ ssrc, rtx }) => (rtx ? [ssrc, rtx] : [ssrc]));
    const pairs = encodings.filter(({ rtx }) => rtx).map(({ ssrc, rtx }) => group('FID', [ssrc, rtx]));
    const simulcast = encodings.length > 1 ? [group('SIM', encodings.map(({ ssrc }) => ssrc))] : [];
    const told = videoType ? { videoType } : {};
    return { type, id: name, sources: ssrcs.map((ssrc) => ({ ssrc, name, ...told })), 'ssrc-groups': [...simulcast, ...pairs] };
  }

  // The call -----------------------------------------------------------------------------------

  let devices = null;

  class Call {
    constructor(stream, options) {
      this.stream = stream;
      this.options = { codec: 'VP8', red: false, simulcast: false, capabilities: [], sends: true, ...options };
      this.options.mids = this.options.capabilities.includes('rtp-mid-demux');
      this.id = `p${PARTICIPANT.number}`;
      this.peers = new Map();
      this.medias = medias(this.options);
      /** Sections of what is received: { mid, kind, source, ssrc, rtx }; of slots, the source changes. */
      this.sections = [];
      this.mapped = {};
      this.forwarded = [];
      this.speaker = null;
      this.elements = new Map();
      this.version = 0;
      this.queue = Promise.resolve();
      this.times = {};
      if (this.options.mids) {
        for (const kind of ['audio', 'video']) {
          for (let slot = 0; slot < SLOTS; slot += 1) this.sections.push({ mid: `${kind[0]}${slot}`, kind, source: null });
        }
      }
    }

    stamp(what) {
      this.times[what] ??= performance.now();
    }

    get room() {
      return this.options.room;
    }

    async join() {
      this.stamp('join');
      await this.stream.ask(focus, `<conference xmlns='http://jitsi.org/protocol/focus' room='${this.room}'/>`);
      this.stamp('conference');
      const { capabilities } = this.options;
      const said = asJson({ capabilities: ['source-names', ...capabilities], medias: this.medias });
      this.stream.send(
        `<presence xmlns='jabber:client' to='${this.room}/${this.id}'><x xmlns='http://jabber.org/protocol/muc'/>${said}</presence>`,
      );
    }

    leave() {
      this.stream.send(`<presence xmlns='jabber:client' type='unavailable' to='${this.room}/${this.id}'/>`);
      this.pc?.close();
      for (const element of this.elements.values()) element.remove();
    }

    on(element) {
      const [room, nick] = (element.getAttribute('from') ?? '').split('/');
      if (room !== this.room) return;
      if (element.localName === 'presence' && nick !== 'focus') {
        if (element.getAttribute('type') === 'unavailable') this.peers.delete(nick);
        else this.peers.set(nick, { id: nick, name: `Person ${nick.slice(1)}` });
      }
      const jingle = element.localName === 'iq' ? element.firstElementChild : null;
      if (jingle?.localName !== 'jingle') return;
      this.stream.send(`<iq xmlns='jabber:client' type='result' id='${element.getAttribute('id')}' to='${room}/${nick}'/>`);
      const said = ofJson(jingle);
      const action = jingle.getAttribute('action');
      if (action === 'session-initiate') this.start(said);
      else this.later(() => this.change(action, said.sources));
    }

    /** Descriptions change one after the other. */
    later(change) {
      this.queue = this.queue.then(change).catch((error) => console.error(error));
    }

    start({ transport, sources }) {
      this.stamp('offered');
      this.transport = transport.transport;
      this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
      this.channel = this.pc.createDataChannel('JVB data channel', { protocol: 'http://jitsi.org/protocols/colibri' });
      this.channel.onopen = () => {
        this.stamp('channel');
        this.tell({ colibriClass: 'ClientHello' });
      };
      this.channel.onmessage = ({ data }) => this.hear(JSON.parse(data));
      this.pc.oniceconnectionstatechange = () => this.stamp(`ice ${this.pc.iceConnectionState}`);
      this.pc.onconnectionstatechange = () => this.stamp(`pc ${this.pc.connectionState}`);
      this.add(sources);
      this.later(() => this.accept());
    }

    tell(message) {
      this.channel.send(JSON.stringify(message));
    }

    hear(message) {
      switch (message.colibriClass) {
        case 'ForwardedSources':
          this.forwarded = message.forwardedSources;
          break;
        case 'DominantSpeakerEndpointChangeEvent':
          this.speaker = message.dominantSpeakerEndpoint;
          break;
        case 'AudioSourcesMap':
        case 'VideoSourcesMap':
          this.map(message.mappedSources, message.colibriClass === 'AudioSourcesMap' ? 'audio' : 'video');
          break;
        default:
      }
    }

    /** The bridge says whose the packets of a slot are. */
    map(sources, kind) {
      let more = false;
      for (const { source, ssrc, rtx, mid } of sources) {
        this.mapped[source] = { ssrc, rtx, mid: mid ?? null };
        let section = this.sections.find((known) => (mid ? known.mid === mid : known.ssrc === ssrc));
        if (!section) {
          section = { mid: `r${this.sections.length}`, kind, ssrc, rtx: rtx > 0 ? rtx : null };
          this.sections.push(section);
          more = true;
        }
        for (const other of this.sections) if (other.source === source) other.source = null;
        section.source = source;
      }
      if (more) this.later(() => this.describe());
      else this.show();
    }

    /** Sources of others, whom the focus told of. */
    add(sources) {
      if (this.options.capabilities.includes('ssrc-rewriting')) return;
      for (const source of sources) {
        const { ssrc, rtx } = streams(source);
        this.sections.push({ mid: `r${this.sections.length}`, kind: source.type, source: source.id, ssrc, rtx });
      }
    }

    async change(action, sources) {
      if (action === 'source-add') this.add(sources);
      for (const { id } of action === 'source-remove' ? sources : []) {
        const gone = this.sections.find(({ source }) => source === id);
        if (gone) Object.assign(gone, { source: null, ssrc: this.rewritten ? gone.ssrc : null });
      }
      await this.describe();
    }

    get rewritten() {
      return this.options.capabilities.includes('ssrc-rewriting');
    }

    offer() {
      const { ufrag, pwd, fingerprints, candidates } = this.transport;
      const ice = [`a=ice-ufrag:${ufrag}`, `a=ice-pwd:${pwd}`, 'a=setup:actpass'];
      for (const { hash, fingerprint } of fingerprints) ice.push(`a=fingerprint:${hash} ${fingerprint}`);
      const places = candidates.map(
        (c) => `a=candidate:${c.foundation} ${c.component} ${c.protocol} ${c.priority} ${c.ip} ${c.port} typ ${c.type}`,
      );
      const section = (kind, mid, direction, more) => {
        const media = this.medias.find(({ type }) => type === kind);
        const types = media['payload-types'].map(({ id }) => id);
        const head = [`m=${kind} 9 UDP/TLS/RTP/SAVPF ${types.join(' ')}`, 'c=IN IP4 0.0.0.0', `a=mid:${mid}`, `a=${direction}`];
        return [...head, 'a=rtcp-mux', ...ice, ...(mid === OWN.audio ? places : []), ...formats(media), ...more];
      };
      const rids = RIDS.map((rid) => `a=rid:${rid} recv`);
      const simulcast = this.options.simulcast ? [...rids, `a=simulcast:recv ${RIDS.join(';')}`] : [];
      const lines = [
        ...section('audio', OWN.audio, 'recvonly', []),
        ...section('video', OWN.camera, 'recvonly', simulcast),
        ...section('video', OWN.desktop, 'recvonly', []),
        'm=application 9 UDP/DTLS/SCTP webrtc-datachannel', 'c=IN IP4 0.0.0.0', 'a=mid:data', ...ice,
        'a=sctp-port:5000', 'a=max-message-size:65536',
      ];
      for (const { mid, kind, ssrc, rtx } of this.sections) {
        const more = [`a=msid:${mid} ${mid}`];
        if (ssrc && rtx) more.push(`a=ssrc-group:FID ${ssrc} ${rtx}`);
        for (const one of [ssrc, rtx]) if (one) more.push(`a=ssrc:${one} cname:${mid}`);
        lines.push(...section(kind, mid, ssrc || this.options.mids ? 'sendonly' : 'inactive', more));
      }
      this.version += 1;
      const bundle = [...Object.values(OWN), 'data', ...this.sections.map(({ mid }) => mid)];
      const head = ['v=0', `o=- 1 ${this.version} IN IP4 0.0.0.0`, 's=-', 't=0 0', `a=group:BUNDLE ${bundle.join(' ')}`, 'a=extmap-allow-mixed'];
      return [...head, ...lines, ''].join('\r\n');
    }

    async describe() {
      await this.pc.setRemoteDescription({ type: 'offer', sdp: this.offer() });
      this.stamp('remote');
      for (const mid of this.options.sends ? Object.values(OWN) : []) this.transceiver(mid).direction = 'sendonly';
      this.show();
      await this.pc.setLocalDescription();
      this.stamp('local');
    }

    transceiver(mid) {
      return this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid);
    }

    /** Text of a section of our description. */
    section(mid) {
      return this.pc.localDescription.sdp.split(/^(?=m=)/m).find((section) => section.includes(`a=mid:${mid}\r\n`));
    }

    async accept() {
      await this.describe();
      const own = this.section(OWN.audio);
      const [, ufrag] = own.match(/a=ice-ufrag:(\S+)/);
      const [, pwd] = own.match(/a=ice-pwd:(\S+)/);
      const [, hash, fingerprint] = own.match(/a=fingerprint:(\S+) (\S+)/);
      const transport = { xmlns: ICE, ufrag, pwd, 'rtcp-mux': true, fingerprints: [{ hash, fingerprint, setup: 'active' }] };
      const sources = this.options.sends ? [this.written(OWN.audio, 'a0', 'audio')] : [];
      if (this.options.sends && !this.options.simulcast) sources.push(this.written(OWN.camera, 'v0', 'video', 'camera'));
      const medias = this.medias;
      this.say('session-accept', { transport: { transport }, medias, sources });
      if (!this.options.sends) return;
      // The same in each call.
      devices ??= await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
      await this.transceiver(OWN.audio).sender.replaceTrack(devices.getAudioTracks()[0]);
      if (this.options.simulcast) this.say('source-add', { sources: [await this.learnt()] });
      await this.transceiver(OWN.camera).sender.replaceTrack(devices.getVideoTracks()[0]);
      await this.tune(OWN.camera);
    }

    say(action, body) {
      const jingle = `<jingle xmlns='urn:xmpp:jingle:1' action='${action}' sid='${this.id}'>${asJson(body)}</jingle>`;
      return this.stream.ask(`${this.room}/focus`, jingle).then(() => this.stamp(action));
    }

    /** A source whose SSRCs stand in our description. */
    written(mid, suffix, type, videoType) {
      const section = this.section(mid);
      const pair = section.match(/a=ssrc-group:FID (\d+) (\d+)/);
      const ssrc = Number(pair?.[1] ?? section.match(/a=ssrc:(\d+)/)[1]);
      return ownSource(`${this.id}-${suffix}`, type, videoType, [{ ssrc, rtx: pair ? Number(pair[2]) : null }]);
    }

    /** The camera in simulcast, whose SSRCs do not stand in our description. */
    async learnt() {
      for (;;) {
        const stats = [...(await this.transceiver(OWN.camera).sender.getStats()).values()];
        const out = stats.filter(({ type }) => type === 'outbound-rtp').sort((a, b) => a.rid - b.rid);
        const encodings = out.map(({ ssrc, rtxSsrc }) => ({ ssrc, rtx: rtxSsrc }));
        if (out.length === RIDS.length) return ownSource(`${this.id}-v0`, 'video', 'camera', encodings);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }

    async tune(mid) {
      const { sender } = this.transceiver(mid);
      const parameters = sender.getParameters();
      const { rates, mode, simulcast } = this.options;
      parameters.encodings.forEach((encoding, at) => {
        if (mode) encoding.scalabilityMode = mode;
        if (rates) encoding.maxBitrate = 1000 * (simulcast && mid === OWN.camera ? rates[at] : rates.at(-1));
        if (simulcast && mid === OWN.camera) encoding.scaleResolutionDownBy = 4 / 2 ** at;
      });
      parameters.degradationPreference = 'maintain-resolution';
      await sender.setParameters(parameters);
    }

    async share() {
      const media = await navigator.mediaDevices.getDisplayMedia({ video: true });
      await this.transceiver(OWN.desktop).sender.replaceTrack(media.getVideoTracks()[0]);
      await this.tune(OWN.desktop);
      await this.say('source-add', { sources: [this.written(OWN.desktop, 'v1', 'video', 'desktop')] });
    }

    received() {
      return this.sections.filter(({ source, mid }) => source && this.transceiver(mid));
    }

    /** Plays what is received, by section. */
    show() {
      for (const { mid, kind } of this.received()) {
        if (this.elements.has(mid)) continue;
        const { track } = this.transceiver(mid).receiver;
        const element = Object.assign(document.createElement(kind), { autoplay: true, srcObject: new MediaStream([track]) });
        if (kind === 'video') this.decoded(track);
        element.muted = kind === 'video';
        document.documentElement.append(element);
        this.elements.set(mid, element);
      }
    }

    /** Notes when the first frame comes out of a decoder. */
    async decoded(track) {
      if (this.times.frame) return;
      const frames = new MediaStreamTrackProcessor({ track: track.clone() }).readable.getReader();
      const { value } = await frames.read();
      this.stamp('frame');
      value?.close();
      await frames.cancel();
    }

    /** What is received of each source. */
    async inbound() {
      const stats = [...(await this.pc.getStats()).values()];
      const entries = this.received().map(({ source, mid }) => {
        const s = stats.find(({ type, mid: its }) => type === 'inbound-rtp' && its === mid) ?? {};
        const codec = stats.find(({ id }) => id === s.codecId)?.mimeType ?? null;
        const figures = { bytes: s.bytesReceived, frames: s.framesDecoded, height: s.frameHeight, packets: s.packetsReceived };
        return [source, { mid, ssrc: s.ssrc ?? null, codec, time: performance.now(), bytes: 0, ...figures }];
      });
      return Object.fromEntries(entries);
    }

    /** The same for so many ms, as rates. */
    async measure(ms) {
      const before = await this.inbound();
      await new Promise((resolve) => setTimeout(resolve, ms));
      const rates = {};
      for (const [source, now] of Object.entries(await this.inbound())) {
        const was = before[source] ?? { bytes: 0, frames: 0, time: now.time - ms };
        const seconds = (now.time - was.time) / 1000;
        const kbps = ((now.bytes - was.bytes) * 8) / 1000 / seconds;
        rates[source] = { ...now, kbps, fps: ((now.frames ?? 0) - (was.frames ?? 0)) / seconds };
      }
      return rates;
    }
  }

  let call = null;
  const stream = new Stream((element) => call?.on(element));
  const loggedIn = stream.logIn();

  window.rialto = {
    /** { room, codec, mode, rates, simulcast, red, capabilities, sends } */
    join: async (options) => {
      await loggedIn;
      call = new Call(stream, options);
      await call.join();
    },
    leave: () => call.leave(),
    share: () => call.share(),
    ask: (message) => call.tell(message),
    tracks: () => Object.fromEntries(call.received().map(({ source, mid }) => [source, call.transceiver(mid).receiver.track])),
    stats: async () => [...(await call.pc.getStats()).values()],
    inbound: () => call.inbound(),
    /** Begins to measure; what came of it is in `measured`. */
    measure: (ms) => {
      window.measured = call.measure(ms);
    },
    times: () => ({ ...call.times }),
    state: () => ({
      id: call?.id ?? null,
      connection: call?.pc?.connectionState ?? null,
      channel: call?.channel?.readyState ?? null,
      peers: [...(call?.peers.values() ?? [])],
      sources: (call?.received() ?? []).map(({ source, mid }) => ({ source, mid })),
      speaker: call?.speaker ?? null,
      forwarded: call?.forwarded ?? [],
      mapped: call?.mapped ?? {},
    }),
  };
})();
