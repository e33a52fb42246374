// The one RTCPeerConnection. The focus offers, this page answers. The first three sections are what
// this page sends; each further section is a source of another participant, as `slots` says.

const MIDS = { microphone: '0', camera: '1', screen: '2' };

/** Bits per second and scale of the camera's simulcast streams. */
const LAYERS = {
  l: { maxBitrate: 200_000, scaleResolutionDownBy: 4 },
  m: { maxBitrate: 700_000, scaleResolutionDownBy: 2 },
  h: { maxBitrate: 2_500_000, scaleResolutionDownBy: 1 },
};

export class Peer {
  /**
   * `on.state(text)` for changes of the connection, `on.candidate(text)` for local candidates,
   * `on.message(object)` for what comes in the bridge channel, `on.open()` when that opens.
   * Throws where the browser makes no connections.
   */
  constructor(on) {
    this.on = on;
    this.slots = new Map();
    this.tracks = { microphone: null, camera: null, screen: null };
    this.sending = false;
    this.encodings = [];
    this.answered = false;
    this.candidates = [];
    /** How many local candidates there were, and whether there ever was a connection. */
    this.gathered = 0;
    this.connected = false;
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    this.channel = this.pc.createDataChannel('JVB data channel', { protocol: 'http://jitsi.org/protocols/colibri' });
    this.channel.onopen = () => {
      this.tell({ colibriClass: 'ClientHello' });
      on.open();
    };
    this.channel.onmessage = ({ data }) => on.message(JSON.parse(data));
    this.pc.onconnectionstatechange = () => {
      this.connected ||= this.pc.connectionState === 'connected';
      on.state(this.pc.connectionState);
    };
    this.pc.onicegatheringstatechange = () => {
      if (this.pc.iceGatheringState === 'complete' && !this.gathered) on.state('unreachable');
    };
    this.pc.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      this.gathered += 1;
      if (this.answered) on.candidate(candidate.candidate);
      else this.candidates.push(candidate.candidate);
    };
  }

  /**
   * Applies an offer. Returns the answer's text and those SSRCs that it does not name and that are known:
   * none in the first answer, which is not held back for them, as nothing connects without it.
   */
  async answer({ sdp, slots }) {
    this.answered = false;
    await this.pc.setRemoteDescription({ type: 'offer', sdp });
    for (const mid of Object.values(MIDS)) {
      const transceiver = this.#transceiver(mid);
      if (transceiver) transceiver.direction = 'sendonly';
    }
    await this.pc.setLocalDescription();
    this.slots = new Map(slots.map((slot) => [slot.mid, slot]));
    return { sdp: this.pc.localDescription.sdp, encodings: this.encodings };
  }

  /**
   * Begins to send after the first answer; `known(encodings)` is called once the SSRCs are known. Tracks
   * follow then: a stream that rests for want of pixels or of bits has no statistics, and none rests
   * before there is a track.
   */
  async begin(known) {
    if (this.sending) return;
    await this.#learnEncodings();
    known(this.encodings);
    this.sending = true;
    for (const [kind, mid] of Object.entries(MIDS)) {
      await this.#transceiver(mid)?.sender.replaceTrack(this.tracks[kind]);
    }
    await this.#tune();
  }

  /** The answer is on its way: candidates may follow. */
  flush() {
    this.answered = true;
    for (const candidate of this.candidates.splice(0)) this.on.candidate(candidate);
  }

  /** Sends a message in the bridge channel. False when it is not open. */
  tell(message) {
    if (this.channel.readyState !== 'open') return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  /** Sends a track, or nothing, in place of what was sent. */
  async send(kind, track) {
    this.tracks[kind] = track;
    if (this.sending) await this.#transceiver(MIDS[kind])?.sender.replaceTrack(track);
  }

  /** What is received now: slot and track for each live section. */
  received() {
    return this.pc
      .getTransceivers()
      .filter((transceiver) => this.slots.has(transceiver.mid))
      .map((transceiver) => ({ ...this.slots.get(transceiver.mid), track: transceiver.receiver.track }));
  }

  /** Where the bridge receives media, as it said. */
  remoteAddresses() {
    const sdp = this.pc.remoteDescription?.sdp ?? '';
    // candidate:<foundation> <component> <protocol> <priority> <address> <port> (RFC 8839 section 5.1)
    const found = sdp.matchAll(/^a=candidate:\S+ \d+ (\S+) \d+ (\S+) (\d+)/gm);
    return [...new Set([...found].map(([, protocol, address, port]) => `${protocol.toUpperCase()} ${address}:${port}`))];
  }

  close() {
    this.pc.close();
  }

  #transceiver(mid) {
    return this.pc.getTransceivers().find((transceiver) => transceiver.mid === mid);
  }

  /** SSRCs of simulcast streams, which not all browsers write into descriptions. */
  async #learnEncodings() {
    const mid = MIDS.camera;
    const sender = this.#transceiver(mid)?.sender;
    const wanted = sender?.getParameters().encodings.length ?? 0;
    for (let tries = 0; sender && tries < 20; tries += 1) {
      const stats = [...(await sender.getStats()).values()].filter(({ type }) => type === 'outbound-rtp');
      this.encodings = stats.map(({ rid = '', ssrc, rtxSsrc = null }) => ({ mid, rid, ssrc, rtx: rtxSsrc }));
      // Firefox has no statistics before it sends, but it writes the SSRCs.
      if (stats.length >= wanted || /a=ssrc-group:FID/.test(this.#section(mid))) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The text of a section of the local description. */
  #section(mid) {
    const sections = this.pc.localDescription.sdp.split(/^m=/m);
    return sections.find((section) => section.includes(`a=mid:${mid}\r\n`)) ?? '';
  }

  /** Sets bitrates and scales once the senders know their encodings. */
  async #tune() {
    for (const mid of [MIDS.camera, MIDS.screen]) {
      const sender = this.#transceiver(mid)?.sender;
      if (!sender) continue;
      const parameters = sender.getParameters();
      if (!parameters.encodings?.length || !parameters.transactionId) continue;
      for (const encoding of parameters.encodings) {
        Object.assign(encoding, LAYERS[encoding.rid] ?? { maxBitrate: 2_500_000 });
      }
      try {
        await sender.setParameters(parameters);
      } catch (error) {
        console.warn('the browser keeps its own bitrates:', error.message);
      }
    }
  }
}
