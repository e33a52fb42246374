// The dialog to choose camera, microphone and speaker, with a preview of the first two and a test tone for
// the third.

import { chosenDevice, explain, insecureReason, openTrack, rememberDevice } from '/_rialto/media.js';

/** Device kinds of `enumerateDevices`. */
const KINDS = { camera: 'videoinput', microphone: 'audioinput', speaker: 'audiooutput' };

/** Whether this browser lets a page select the speaker. */
const canChooseSpeaker = 'setSinkId' in HTMLMediaElement.prototype;

export class Devices {
  /** `onspeaker(id)` is called when another speaker was chosen. */
  constructor(dialog, media, onspeaker) {
    this.dialog = dialog;
    this.media = media;
    this.onspeaker = onspeaker;
    this.tracks = { camera: null, microphone: null };
    this.selects = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, dialog.querySelector(`#choose-${kind}`)]));
    this.video = dialog.querySelector('video');
    this.meter = dialog.querySelector('meter');
    this.problem = dialog.querySelector('.problem');
    this.test = dialog.querySelector('#test-speaker');
    for (const [kind, select] of Object.entries(this.selects)) select.onchange = () => this.#choose(kind, select.value);
    this.test.onclick = () => this.#playTone();
    // Firefox shows a page only the speakers that were picked in a list of its own.
    this.pick = dialog.querySelector('#pick-speaker');
    this.pick.hidden = !navigator.mediaDevices?.selectAudioOutput;
    this.pick.onclick = () => this.#pickSpeaker();
    dialog.querySelector('.close').onclick = () => this.close();
    dialog.onclick = ({ target }) => target === dialog && this.close();
    dialog.onclose = () => this.#stop();
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.shown && this.#list());
  }

  get shown() {
    return this.dialog.open;
  }

  async open() {
    if (this.shown) return;
    this.dialog.showModal();
    this.problem.textContent = insecureReason() ?? '';
    if (this.problem.textContent) return;
    for (const kind of ['camera', 'microphone']) await this.#preview(kind);
    await this.#list();
  }

  close() {
    this.dialog.close();
  }

  /** Shows the call's own track, muted or not; otherwise opens the device while the dialog is open. */
  async #preview(kind) {
    this.#stopOne(kind);
    try {
      const live = this.media.tracks[kind];
      const track = live ? live.clone() : await openTrack(kind);
      track.enabled = true;
      if (!this.shown) return track.stop();
      this.tracks[kind] = track;
      if (kind === 'camera') this.video.srcObject = new MediaStream([track]);
      else this.#measureLevel(track);
    } catch (error) {
      this.problem.textContent = `No ${kind}: ${explain(error)}.`;
    }
  }

  /** Fills the lists. Browsers name devices only after the user has given permission. */
  async #list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    for (const [kind, select] of Object.entries(this.selects)) {
      const found = devices.filter(({ kind: of, deviceId }) => of === KINDS[kind] && deviceId);
      const options = found.map(({ deviceId, label }, index) => new Option(label || `${kind} ${index + 1}`, deviceId));
      const none = kind === 'speaker' ? 'As the system says' : 'None found';
      if (!options.length) options.push(new Option(none, ''));
      select.replaceChildren(...options);
      select.disabled = !found.length || (kind === 'speaker' && !canChooseSpeaker);
      const used = this.tracks[kind]?.getSettings?.().deviceId ?? chosenDevice(kind);
      if (found.some(({ deviceId }) => deviceId === used)) select.value = used;
    }
  }

  async #choose(kind, id) {
    this.problem.textContent = '';
    if (kind === 'speaker') {
      rememberDevice('speaker', id);
      this.onspeaker(id);
      return;
    }
    // Some devices cannot be opened twice.
    this.#stopOne(kind);
    try {
      if (this.media.tracks[kind]) await this.media.choose(kind, id);
      else rememberDevice(kind, id);
    } catch (error) {
      this.problem.textContent = `No ${kind}: ${explain(error)}.`;
    }
    await this.#preview(kind);
    await this.#list();
  }

  async #pickSpeaker() {
    try {
      const { deviceId } = await navigator.mediaDevices.selectAudioOutput();
      await this.#choose('speaker', deviceId);
      await this.#list();
    } catch (error) {
      if (error.name !== 'NotAllowedError') this.problem.textContent = `No speaker: ${explain(error)}.`;
    }
  }

  #measureLevel(track) {
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 1024 });
    new MediaStreamAudioSourceNode(context, { mediaStream: new MediaStream([track]) }).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      if (this.tracks.microphone !== track) return context.close();
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // Decibels of full scale, -60 to 0, as 0 to 1.
      this.meter.value = Math.max(0, 1 + Math.log10(power + 1e-9) / 6);
      requestAnimationFrame(draw);
    };
    draw();
  }

  async #playTone() {
    const context = new AudioContext();
    const out = new MediaStreamAudioDestinationNode(context);
    const gain = new GainNode(context, { gain: 0.2 });
    const tone = new OscillatorNode(context, { frequency: 523 });
    tone.connect(gain).connect(out);
    const audio = new Audio();
    audio.srcObject = out.stream;
    tone.onended = () => context.close();
    try {
      await toSpeaker(audio, chosenDevice('speaker'));
      await audio.play();
      tone.start();
      tone.stop(context.currentTime + 0.6);
    } catch (error) {
      context.close();
      this.problem.textContent = `No sound: ${explain(error)}.`;
    }
  }

  #stopOne(kind) {
    this.tracks[kind]?.stop();
    this.tracks[kind] = null;
    if (kind === 'camera') this.video.srcObject = null;
    else this.meter.value = 0;
  }

  #stop() {
    for (const kind of Object.keys(this.tracks)) this.#stopOne(kind);
  }
}

/** Selects an element's speaker. If it is absent, the system's default is used. */
export async function toSpeaker(element, id) {
  if (!canChooseSpeaker || (element.sinkId ?? '') === id) return;
  await element.setSinkId(id).catch(() => element.setSinkId(''));
}
