// The page's RTCPeerConnection. The focus offers, this page answers. The first three sections are the media
// that this page sends; each further section is a source of another participant, as listed in `slots`.

const MIDS = { microphone: '0', camera: '1', screen: '2' };

/** Bits per second and scale of the camera's simulcast streams. */
const LAYERS = {
  l: { maxBitrate: 200_000, scaleResolutionDownBy: 4 },
  m: { maxBitrate: 700_000, scaleResolutionDownBy: 2 },
  h: { maxBitrate: 2_500_000, scaleResolutionDownBy: 1 },
};

export class Peer {
  /**
   * `on.state(text)` reports changes of the connection, `on.candidate(text)` local candidates,
   * `on.message(object)` messages in the bridge channel, `on.open()` that the channel opened. Throws if
   * the browser makes no connections.
   */
  constructor(on) {
    this.on = on;
    this.slots = new Map();
    this.tracks = { microphone: null, camera: null, screen: null };
    this.sending = false;
    this.encodings = [];
    this.answered = false;
    this.candidates = [];
    /** The number of local candidates, and whether the connection was ever established. */
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
   * Applies an offer. Returns the answer's text and the known SSRCs that it does not name: none in the
   * first answer, which does not wait for them, as nothing connects without it.
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
   * Starts sending after the first answer; `known(encodings)` is called once the SSRCs are known. Only
   * then are tracks added: a stream that pauses for lack of pixels or bitrate has no statistics, and
   * none pauses before there is a track.
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

  /** The answer has been sent: candidates may follow. */
  flush() {
    this.answered = true;
    for (const candidate of this.candidates.splice(0)) this.on.candidate(candidate);
  }

  /** Sends a message in the bridge channel. Returns false when it is not open. */
  tell(message) {
    if (this.channel.readyState !== 'open') return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  /** Replaces the sent track; null sends nothing. */
  async send(kind, track) {
    this.tracks[kind] = track;
    if (this.sending) await this.#transceiver(MIDS[kind])?.sender.replaceTrack(track);
  }

  /** Returns slot and track of each live section. */
  received() {
    return this.pc
      .getTransceivers()
      .filter((transceiver) => this.slots.has(transceiver.mid))
      .map((transceiver) => ({ ...this.slots.get(transceiver.mid), track: transceiver.receiver.track }));
  }

  /** Returns the addresses at which the bridge receives media, from its candidates. */
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

  /** Returns SSRCs of simulcast streams, which not all browsers write into descriptions. */
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

  /** Returns the text of a section of the local description. */
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
