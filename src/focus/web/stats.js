// Reduces getStats to a few figures for each source.

/** Rates are differences between two reports. */
export class Rates {
  constructor() {
    this.last = new Map();
  }

  /** Figures by MID: { in: { mid: figures }, out: { mid: figures }, rtt, available }. */
  read(report) {
    const result = { in: {}, out: {}, rtt: null, available: null };
    const remote = new Map();
    report.forEach((stat) => {
      if (stat.type === 'remote-inbound-rtp') remote.set(stat.localId, stat);
      if (stat.type === 'candidate-pair' && stat.nominated && stat.state === 'succeeded') {
        result.rtt = stat.currentRoundTripTime ?? result.rtt;
        result.available = stat.availableOutgoingBitrate ?? result.available;
      }
    });
    report.forEach((stat) => {
      if (stat.type === 'inbound-rtp') this.#inbound(result.in, stat);
      if (stat.type === 'outbound-rtp') this.#outbound(result.out, stat, remote.get(stat.id));
    });
    return result;
  }

  #inbound(into, stat) {
    const rate = this.#rates(stat, ['bytesReceived', 'packetsReceived', 'packetsLost']);
    if (!rate) return;
    const expected = rate.packetsReceived + rate.packetsLost;
    into[stat.mid] = {
      bps: rate.bytesReceived * 8,
      loss: expected > 0 ? Math.max(0, rate.packetsLost / expected) : 0,
      width: stat.frameWidth ?? 0,
      height: stat.frameHeight ?? 0,
      fps: stat.framesPerSecond ?? 0,
      frames: stat.framesDecoded ?? 0,
      packets: stat.packetsReceived,
      codec: stat.codecId,
    };
  }

  /** Sums the streams of a simulcast source; its size is that of the largest stream that is sent. */
  #outbound(into, stat, remote) {
    const rate = this.#rates(stat, ['bytesSent', 'packetsSent']);
    if (!rate) return;
    const known = into[stat.mid] ?? { bps: 0, loss: 0, width: 0, height: 0, fps: 0, streams: 0 };
    known.bps += rate.bytesSent * 8;
    known.loss = Math.max(known.loss, remote?.fractionLost ?? 0);
    known.streams += rate.bytesSent > 0 ? 1 : 0;
    if (rate.bytesSent > 0 && (stat.frameWidth ?? 0) >= known.width) {
      known.width = stat.frameWidth ?? 0;
      known.height = stat.frameHeight ?? 0;
      known.fps = stat.framesPerSecond ?? 0;
    }
    into[stat.mid] = known;
  }

  /** Returns the change per second of some counters, or null for a new stream. */
  #rates(stat, names) {
    const last = this.last.get(stat.id);
    this.last.set(stat.id, stat);
    const seconds = last ? (stat.timestamp - last.timestamp) / 1000 : 0;
    if (seconds <= 0) return null;
    return Object.fromEntries(
      names.map((name) => [name, ((stat[name] ?? 0) - (last[name] ?? 0)) / seconds]),
    );
  }
}

export function bitrate(bps) {
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(2)} Mb/s`;
  return `${Math.round(bps / 1e3)} kb/s`;
}
