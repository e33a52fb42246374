// Microphone, camera and screen of this page.

/** Why a browser will not give a camera to a page of this address, or null. */
export function insecureReason() {
  if (window.isSecureContext && navigator.mediaDevices) return null;
  return (
    `Browsers give camera and microphone only to pages from localhost or over HTTPS, and this is ` +
    `${location.origin}. Start the bridge with --tls-cert and --tls-key, or open the page on the ` +
    `machine it runs on. You can still watch and listen.`
  );
}

const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

export class LocalMedia {
  /** `onchange(kind)` is called when a track came, went, or was muted. */
  constructor(onchange) {
    this.onchange = onchange;
    this.tracks = { microphone: null, camera: null, screen: null };
  }

  /** Asks for both, then for each alone. Returns what to tell the user, or null. */
  async open() {
    const reason = insecureReason();
    if (reason) return reason;
    let failure = null;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: AUDIO, video: VIDEO });
      this.#take('microphone', stream.getAudioTracks()[0]);
      this.#take('camera', stream.getVideoTracks()[0]);
      return null;
    } catch (error) {
      failure = error;
    }
    for (const kind of ['microphone', 'camera']) {
      try {
        await this.#openOne(kind);
      } catch (error) {
        failure = error;
      }
    }
    if (this.tracks.microphone && this.tracks.camera) return null;
    if (this.tracks.microphone) return `You are in the call without a camera (${explain(failure)}).`;
    if (this.tracks.camera) return `You are in the call without a microphone (${explain(failure)}).`;
    return `You are in the call without camera and microphone (${explain(failure)}). The others cannot see or hear you.`;
  }

  /** Mutes or unmutes; asks for the device where there is none yet. */
  async toggle(kind) {
    const track = this.tracks[kind];
    if (!track) {
      await this.#openOne(kind);
    } else {
      track.enabled = !track.enabled;
      this.onchange(kind);
    }
  }

  async share() {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15 } } });
    const [track] = stream.getVideoTracks();
    track.contentHint = 'detail';
    this.#take('screen', track);
  }

  stop(kind) {
    const track = this.tracks[kind];
    if (!track) return;
    track.onended = null;
    track.stop();
    this.#take(kind, null);
  }

  close() {
    for (const kind of Object.keys(this.tracks)) this.stop(kind);
  }

  /** What the focus is told: 'none', 'muted' or 'on' for each. */
  state() {
    const one = (track) => (!track ? 'none' : track.enabled ? 'on' : 'muted');
    const { microphone, camera, screen } = this.tracks;
    return { microphone: one(microphone), camera: one(camera), screen: one(screen) };
  }

  async #openOne(kind) {
    const reason = insecureReason();
    if (reason) throw new Error(reason);
    const want = kind === 'camera' ? { video: VIDEO } : { audio: AUDIO };
    const stream = await navigator.mediaDevices.getUserMedia(want);
    this.#take(kind, stream.getTracks()[0]);
  }

  #take(kind, track) {
    this.tracks[kind] = track ?? null;
    if (track) {
      // Unplugged, or sharing ended by the browser's own button.
      track.onended = () => {
        this.tracks[kind] = null;
        this.onchange(kind);
      };
    }
    this.onchange(kind);
  }
}

export function explain(error) {
  switch (error?.name) {
    case 'NotAllowedError':
      return 'permission was refused';
    case 'NotFoundError':
      return 'none was found';
    case 'NotReadableError':
      return 'it is in use elsewhere';
    default:
      return error?.message || 'unknown reason';
  }
}
