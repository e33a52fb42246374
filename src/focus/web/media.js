// Microphone, camera and screen of this page.

/** Returns why a browser will not give a camera to a page of this address, or null. */
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

/** Returns the device that the user chose before, or an empty text. */
export function chosenDevice(kind) {
  return localStorage.getItem(`rialto.${kind}`) ?? '';
}

export function rememberDevice(kind, id) {
  localStorage.setItem(`rialto.${kind}`, id);
}

/**
 * Returns the constraints for getUserMedia. If a device chosen earlier is absent, another one is used;
 * one just picked (`exact`) has no substitute.
 */
export function wanted(kind, exact = '') {
  const chosen = chosenDevice(kind);
  const device = exact ? { exact } : chosen ? { ideal: chosen } : null;
  return { ...(kind === 'camera' ? VIDEO : AUDIO), ...(device ? { deviceId: device } : {}) };
}

export class LocalMedia {
  /** `onchange(kind)` is called when a track was added, removed or muted. */
  constructor(onchange) {
    this.onchange = onchange;
    this.tracks = { microphone: null, camera: null, screen: null };
  }

  /** Requests both devices, then each alone. Returns a message for the user, or null. */
  async open() {
    const reason = insecureReason();
    if (reason) return reason;
    let failure = null;
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted('microphone'), video: wanted('camera') });
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

  /** Mutes or unmutes; requests the device if there is none yet. */
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

  /** Returns the state for the focus: 'none', 'muted' or 'on' for each. */
  state() {
    const one = (track) => (!track ? 'none' : track.enabled ? 'on' : 'muted');
    const { microphone, camera, screen } = this.tracks;
    return { microphone: one(microphone), camera: one(camera), screen: one(screen) };
  }

  /**
   * Switches to another camera or microphone and keeps the muted state. If that fails, restores the
   * previous one and throws the error.
   */
  async choose(kind, id) {
    const before = this.tracks[kind];
    const muted = before?.enabled === false;
    // Many machines cannot open two cameras at once.
    if (before) before.onended = null;
    before?.stop();
    try {
      await this.#openOne(kind, id, muted);
      rememberDevice(kind, id);
    } catch (error) {
      await this.#openOne(kind, '', muted).catch(() => this.#take(kind, null));
      throw error;
    }
  }

  async #openOne(kind, exact = '', muted = false) {
    const track = await openTrack(kind, exact);
    track.enabled = !muted;
    this.#take(kind, track);
  }

  #take(kind, track) {
    this.tracks[kind] = track ?? null;
    if (track) {
      // The device was unplugged, or the browser's own button ended sharing.
      track.onended = () => {
        this.tracks[kind] = null;
        this.onchange(kind);
      };
    }
    this.onchange(kind);
  }
}

/** Opens a track of a camera or a microphone. */
export async function openTrack(kind, exact = '') {
  const reason = insecureReason();
  if (reason) throw new Error(reason);
  const want = { [kind === 'camera' ? 'video' : 'audio']: wanted(kind, exact) };
  const stream = await navigator.mediaDevices.getUserMedia(want);
  return stream.getTracks()[0];
}

export function explain(error) {
  switch (error?.name) {
    case 'NotAllowedError':
      return 'permission was refused';
    case 'NotFoundError':
      return 'none was found';
    case 'OverconstrainedError':
      return 'it is not there any more';
    case 'NotReadableError':
      return 'it is in use elsewhere';
    default:
      return error?.message || 'unknown reason';
  }
}
