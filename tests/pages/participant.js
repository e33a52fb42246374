// Loaded before the page of a participant in the browser tests. Its camera is a canvas of one
// colour with the participant's number in cells, its microphone one tone; and it can judge what
// comes from the others. `PARTICIPANT` is put in front by the test: { number, colour, tone, width,
// height, devices, busy, addresses, fps }. Its screen, once shared, shows the same colour and its number
// plus 128.

(() => {
  const { number, colour, tone, width, height, devices, busy, addresses, fps } = PARTICIPANT;
  const CELLS = 8;
  let audioContext = null;
  const context = () => (audioContext ??= new AudioContext({ sampleRate: 48000 }));

  /** A picture of spots, of twice the size that is shown of it. Drawn once: it takes a while. */
  function spots() {
    const canvas = Object.assign(document.createElement('canvas'), { width: 2 * width, height: height / 7 });
    const g = canvas.getContext('2d');
    for (let spot = 0; spot < 1500; spot += 1) {
      g.fillStyle = `hsl(${Math.random() * 360} 70% 50%)`;
      g.fillRect(Math.random() * canvas.width, Math.random() * canvas.height, width / 60, height / 60);
    }
    return canvas;
  }

  function picture(number) {
    const canvas = Object.assign(document.createElement('canvas'), { width, height });
    const g = canvas.getContext('2d');
    const noise = busy ? spots() : null;
    let frame = 0;
    const draw = () => {
      g.fillStyle = `rgb(${colour.join(',')})`;
      g.fillRect(0, 0, width, height);
      // The number and its complement, so that neither darkness nor light reads as a number.
      for (let cell = 0; cell < 2 * CELLS; cell += 1) {
        const bit = (number >> (cell % CELLS)) & 1;
        const white = cell < CELLS ? bit : 1 - bit;
        g.fillStyle = white ? '#fff' : '#000';
        g.fillRect((cell * width) / (2 * CELLS), height * 0.75, width / (2 * CELLS), height * 0.25);
      }
      // A strip of noise, another one each time, which costs all the bits that an encoding may have. A
      // larger one costs more, and encoders leave frames out.
      if (busy) {
        const [x, y] = [Math.random() * noise.width * 0.5, Math.random() * noise.height * 0.5];
        g.drawImage(noise, x, y, width, height / 14, 0, 0, width, height / 14);
      }
      // Something that moves, so that there is always something to encode.
      frame += 1;
      g.fillStyle = '#888';
      g.fillRect(((frame * 7) % 100) * (width / 100), 0, width / 20, height / 20);
    };
    draw();
    setInterval(draw, 1000 / fps);
    return canvas.captureStream(fps).getVideoTracks()[0];
  }

  const voices = new Set();
  let words = null;
  let volume = 0.4;

  function microphone() {
    const oscillator = new OscillatorNode(context(), { frequency: tone });
    const gain = new GainNode(context(), { gain: volume });
    voices.add(gain);
    const out = new MediaStreamAudioDestinationNode(context());
    oscillator.connect(gain).connect(out);
    oscillator.start();
    return out.stream.getAudioTracks()[0];
  }

  navigator.mediaDevices.getUserMedia = async ({ audio, video }) => {
    if (!devices) throw new DOMException('no devices here', 'NotFoundError');
    const tracks = [];
    if (audio) tracks.push(microphone());
    if (video) tracks.push(picture(number));
    return new MediaStream(tracks);
  };
  navigator.mediaDevices.getDisplayMedia = async () => new MediaStream([picture(number + 128)]);

  if (!addresses) {
    // Without a relay this leaves no candidate, as in a browser that is offline.
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(configuration) {
        super({ ...configuration, iceTransportPolicy: 'relay' });
      }
    };
  }

  const ears = new Map();
  const canvas = document.createElement('canvas');

  window.judge = {
    /**
     * Lets the tone be heard as words are, or not at all: from now on, and of microphones to come. Pauses are
     * not quite silent: who is always equally loud is taken for noise.
     */
    speak(loud) {
      let beat = 0;
      const set = () => {
        volume = !loud ? 0 : beat % 3 < 2 ? 0.4 : 0.002;
        voices.forEach(({ gain }) => Object.assign(gain, { value: volume }));
        beat += 1;
      };
      clearInterval(words);
      words = loud ? setInterval(set, 200) : null;
      set();
    },

    /** Colour and number that a source shows, or why it shows none. */
    see(source) {
      const track = rialto.tracks()[source];
      const videos = [...document.querySelectorAll('video')];
      const video = videos.find((element) => track && element.srcObject?.getTracks().includes(track));
      if (!video) return { problem: 'no video element' };
      const [w, h] = [video.videoWidth, video.videoHeight];
      if (!w || video.readyState < 2) return { problem: 'no frame' };
      Object.assign(canvas, { width: w, height: h });
      const g = canvas.getContext('2d', { willReadFrequently: true });
      g.drawImage(video, 0, 0, w, h);
      const at = (x, y) => [...g.getImageData(Math.floor(x * w), Math.floor(y * h), 1, 1).data].slice(0, 3);
      const bits = Array.from({ length: 2 * CELLS }, (_, cell) => {
        const [r, gr, b] = at((cell + 0.5) / (2 * CELLS), 0.875);
        return r + gr + b > 384 ? 1 : 0;
      });
      let value = 0;
      for (let cell = 0; cell < CELLS; cell += 1) {
        if (bits[cell] === bits[cell + CELLS]) return { problem: 'cells do not read', bits };
        value |= bits[cell] << cell;
      }
      return { colour: at(0.5, 0.45), number: value, width: w, height: h };
    },

    /** The loudest frequency of a source, Hz, or why there is none. */
    hear(source) {
      const track = rialto.tracks()[source];
      if (!track) return { problem: 'no track' };
      let ear = ears.get(track);
      if (!ear) {
        ear = new AnalyserNode(context(), { fftSize: 4096, smoothingTimeConstant: 0 });
        new MediaStreamAudioSourceNode(context(), { mediaStream: new MediaStream([track]) }).connect(ear);
        ears.set(track, ear);
      }
      const bins = new Float32Array(ear.frequencyBinCount);
      ear.getFloatFrequencyData(bins);
      let loudest = 0;
      bins.forEach((level, bin) => {
        if (level > bins[loudest]) loudest = bin;
      });
      if (!(bins[loudest] > -60)) return { problem: `silence (${bins[loudest]} dB)` };
      return { hz: (loudest * context().sampleRate) / ear.fftSize };
    },

    /** What of everyone else is seen and heard, by the name they gave. */
    others() {
      const { id, peers } = rialto.state();
      const list = peers.filter((peer) => peer.id !== id);
      return Object.fromEntries(
        list.map((peer) => [
          peer.name,
          { id: peer.id, seen: this.see(`${peer.id}-v0`), heard: this.hear(`${peer.id}-a0`) },
        ]),
      );
    },
  };
})();
