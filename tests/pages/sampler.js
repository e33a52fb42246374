// Loaded after participant.js in the tests of links: writes down what the page's statistics say, so that
// nothing has to be asked for while a measurement runs. `SAMPLER` is put in front by the test:
// { every, pin, blind }. `pin`: the name of who is to have the stage. `blind`: wants no pictures, which take
// the machine's time.

(() => {
  const record = { connected: null, samples: [] };
  window.record = record;
  let busy = false;
  let blind = false;

  function received(s) {
    return {
      mid: s.mid, kind: s.kind, frames: s.framesDecoded ?? 0, height: s.frameHeight ?? 0,
      freezes: s.freezeCount ?? 0, frozen: s.totalFreezesDuration ?? 0,
      concealed: s.concealedSamples ?? 0, audio: s.totalSamplesReceived ?? 0,
      packets: s.packetsReceived ?? 0, lost: s.packetsLost ?? 0,
      again: s.retransmittedPacketsReceived ?? 0, bytes: s.bytesReceived ?? 0,
      keyframes: s.keyFramesDecoded ?? 0, nacks: s.nackCount ?? 0, plis: s.pliCount ?? 0,
      dropped: s.framesDropped ?? 0, decode: s.totalDecodeTime ?? 0,
      buffered: s.jitterBufferDelay ?? 0, emitted: s.jitterBufferEmittedCount ?? 0,
    };
  }

  function sent(s) {
    return {
      rid: s.rid ?? '', kind: s.kind, frames: s.framesSent ?? 0, height: s.frameHeight ?? 0,
      bytes: s.bytesSent ?? 0, limit: s.qualityLimitationReason ?? '', target: s.targetBitrate ?? 0, encode: s.totalEncodeTime ?? 0,
    };
  }

  async function sample() {
    const { connection, peers, id, pinned, channel } = rialto.state();
    if (SAMPLER.pin) {
      // The last one: who was here before may not be known to be gone yet.
      const wanted = peers.filter((peer) => peer.name === SAMPLER.pin && peer.id !== id).at(-1);
      if (wanted && pinned !== wanted.id) rialto.pin(wanted.id);
    }
    if (connection !== 'connected') return;
    if (SAMPLER.blind && !blind && channel === 'open') {
      rialto.ask({ colibriClass: 'ReceiverVideoConstraints', lastN: 0 });
      blind = true;
    }
    record.connected ??= Date.now();
    const stats = await rialto.stats();
    const pair = stats.find((s) => s.type === 'candidate-pair' && s.nominated && s.availableOutgoingBitrate);
    record.samples.push({
      time: Date.now(),
      in: stats.filter((s) => s.type === 'inbound-rtp').map(received),
      out: stats.filter((s) => s.type === 'outbound-rtp').map(sent),
      camera: stats.find((s) => s.type === 'media-source' && s.kind === 'video')?.frames ?? 0,
      available: pair?.availableOutgoingBitrate ?? 0,
    });
  }

  setInterval(async () => {
    if (busy || !window.rialto) return;
    busy = true;
    try {
      await sample();
    } catch {
      // The page is not there yet, or joins again.
    }
    busy = false;
  }, SAMPLER.every);
})();
