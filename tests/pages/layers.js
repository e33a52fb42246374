// Loaded after participant.js in the tests of layers. `LAYERS` is put in front by the test:
// - { send: { codec, mode, rids, descriptor, kbps } }: makes the page send its camera so, whatever it would do by
//   itself: as one encoding or as simulcast, with or without the dependency descriptor;
// - { ask: true }: leaves it to the test which heights the page asks the bridge for.
// Both write down what happens, in `window.layers`.

(() => {
  const CAMERA = '1';
  const DESCRIPTOR = 'dependency-descriptor-rtp-header-extension';
  const { send, ask } = LAYERS;
  const record = { asked: [], frames: [], stats: [], problems: [] };
  const cameras = new WeakSet();
  let channel = null;
  let sampling = false;

  /**
   * The section of the camera, as if it were asked for in this one way. Codec preferences of the answer do not do
   * it: Chromium sends what the offer prefers, also where its own answer does not have it.
   */
  function only(section) {
    const lines = section.split('\r\n');
    const of = (pattern) => lines.map((line) => line.match(pattern)).filter((found) => found);
    const media = of(/^a=rtpmap:(\d+) (.*)\/90000$/).filter(([, , name]) => name === send.codec).map(([, pt]) => pt);
    const again = of(/^a=fmtp:(\d+) apt=(\d+)$/).filter(([, , apt]) => media.includes(apt)).map(([, pt]) => pt);
    const types = [...media, ...again];
    const keep = (line) => {
      const [, type] = line.match(/^a=(?:rtpmap|fmtp|rtcp-fb):(\d+) /) ?? [];
      if (type) return types.includes(type);
      if (line.includes(DESCRIPTOR)) return send.descriptor;
      return send.rids || !/^a=(rid|simulcast):/.test(line);
    };
    const first = (line) => line.replace(/^(m=video \d+ \S+) .*/, `$1 ${types.join(' ')}`);
    return lines.filter(keep).map(first).join('\r\n');
  }

  function asked(sdp) {
    const sections = sdp.split(/^(?=m=)/m);
    return sections.map((s) => (s.includes(`a=mid:${CAMERA}\r\n`) ? only(s) : s)).join('');
  }

  if (send) {
    const setRemoteDescription = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
      await setRemoteDescription.call(this, { ...description, sdp: asked(description.sdp) });
      cameras.add(this.getTransceivers().find(({ mid }) => mid === CAMERA).sender);
    };
    const setParameters = RTCRtpSender.prototype.setParameters;
    RTCRtpSender.prototype.setParameters = async function (parameters, ...rest) {
      if (!cameras.has(this)) return setParameters.call(this, parameters, ...rest);
      for (const encoding of parameters.encodings) {
        if (send.mode) encoding.scalabilityMode = send.mode;
        if (!send.rids) encoding.maxBitrate = send.kbps * 1000;
      }
      parameters.degradationPreference = 'maintain-resolution';
      try {
        return await setParameters.call(this, parameters, ...rest);
      } catch (error) {
        record.problems.push(`setParameters: ${error.message}`);
        throw error;
      }
    };
  }

  if (ask) {
    const sendMessage = RTCDataChannel.prototype.send;
    RTCDataChannel.prototype.send = function (text) {
      channel = this;
      if (!text.includes('ReceiverVideoConstraints')) sendMessage.call(this, text);
    };
    record.ask = (height) => {
      const constraints = { colibriClass: 'ReceiverVideoConstraints', defaultConstraints: { maxHeight: height } };
      sendMessage.call(channel, JSON.stringify({ ...constraints, constraints: {} }));
      record.asked.push({ time: Date.now(), height });
    };
    /** Asks for one height after the other, each for so many ms. */
    record.play = (heights, every) => {
      const [height, ...rest] = heights;
      if (height === undefined) {
        record.over = Date.now();
        return;
      }
      record.ask(height);
      setTimeout(() => record.play(rest, every), every);
    };
  }

  /** Writes down when each frame comes out of the decoder, and how high it is. */
  async function watch(track) {
    const frames = new MediaStreamTrackProcessor({ track }).readable.getReader();
    for (;;) {
      const { value, done } = await frames.read();
      if (done) return;
      record.frames.push({ time: Date.now(), height: value.visibleRect.height });
      value.close();
    }
  }

  const inbound = (s) => ({
    height: s.frameHeight, frames: s.framesDecoded, bytes: s.bytesReceived, freezes: s.freezeCount,
    frozen: s.totalFreezesDuration, keyframes: s.keyFramesDecoded, plis: s.pliCount,
    again: s.retransmittedPacketsReceived, lost: s.packetsLost, dropped: s.framesDropped,
  });
  const outbound = (s) => ({
    rid: s.rid, height: s.frameHeight, frames: s.framesSent, bytes: s.bytesSent, keyframes: s.keyFramesEncoded,
    plis: s.pliCount, limit: s.qualityLimitationReason, mode: s.scalabilityMode, encoding: s.totalEncodeTime,
  });
  /** Without what the browser does not tell yet. */
  const told = (stream) => Object.fromEntries(Object.entries(stream).filter(([, value]) => value !== undefined));

  async function sample() {
    const all = await rialto.stats();
    const video = (type) => all.filter((s) => s.type === type && s.kind === 'video');
    const streams = ask ? video('inbound-rtp').map(inbound) : video('outbound-rtp').map(outbound);
    const sent = ask ? null : video('outbound-rtp').find((s) => s.framesSent > 0);
    const codec = all.find((s) => s.id === sent?.codecId)?.mimeType ?? null;
    record.stats.push({ time: Date.now(), codec, streams: streams.map(told).filter((s) => s.frames > 0) });
    if (!ask || record.watched) return;
    const track = Object.entries(rialto.tracks()).find(([name]) => name.endsWith('-v0'))?.[1];
    if (!track) return;
    record.watched = true;
    watch(track).catch((error) => record.problems.push(`frames: ${error.message}`));
  }

  setInterval(async () => {
    if (sampling || !window.rialto) return;
    sampling = true;
    // The page is not there yet, or joins again.
    await sample().catch(() => {});
    sampling = false;
  }, 100);
  window.layers = record;
})();
