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

  /** The offer with a camera section that asks for what is to be sent. */
  function asked(sdp) {
    const sections = sdp.split(/^(?=m=)/m);
    const unwanted = (line) =>
      (!send.rids && /^a=(rid|simulcast):/.test(line)) || (!send.descriptor && line.includes(DESCRIPTOR));
    return sections
      .map((section) => {
        if (!section.includes(`a=mid:${CAMERA}\r\n`)) return section;
        return section.split('\r\n').filter((line) => !unwanted(line)).join('\r\n');
      })
      .join('');
  }

  if (send) {
    const setRemoteDescription = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
      await setRemoteDescription.call(this, { ...description, sdp: asked(description.sdp) });
      const camera = this.getTransceivers().find(({ mid }) => mid === CAMERA);
      cameras.add(camera.sender);
      const named = (name) => ({ mimeType }) => mimeType.toLowerCase() === `video/${name}`.toLowerCase();
      const all = RTCRtpReceiver.getCapabilities('video').codecs;
      camera.setCodecPreferences([...all.filter(named(send.codec)), ...all.filter(named('rtx'))]);
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
    mid: s.mid, height: s.frameHeight ?? 0, frames: s.framesDecoded, bytes: s.bytesReceived,
    freezes: s.freezeCount, frozen: s.totalFreezesDuration, dropped: s.framesDropped,
    keyframes: s.keyFramesDecoded, plis: s.pliCount, nacks: s.nackCount, lost: s.packetsLost,
    again: s.retransmittedPacketsReceived, decoder: s.decoderImplementation ?? '',
  });
  const outbound = (s) => ({
    rid: s.rid ?? '', height: s.frameHeight ?? 0, frames: s.framesSent, encoded: s.framesEncoded, bytes: s.bytesSent,
    limit: s.qualityLimitationReason, mode: s.scalabilityMode ?? '', encoder: s.encoderImplementation ?? '',
    encoding: s.totalEncodeTime, keyframes: s.keyFramesEncoded, plis: s.pliCount, target: s.targetBitrate ?? 0,
  });

  async function sample() {
    const all = await rialto.stats();
    const video = (type) => all.filter((s) => s.type === type && s.kind === 'video');
    const streams = ask ? video('inbound-rtp').map(inbound) : video('outbound-rtp').map(outbound);
    const codec = ask ? '' : all.find((s) => s.type === 'codec' && s.mimeType.startsWith('video/'))?.mimeType;
    record.stats.push({ time: Date.now(), codec, streams: streams.filter((s) => s.frames > 0) });
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
