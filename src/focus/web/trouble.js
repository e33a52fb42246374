// Explanations of a missing connection for the user, and the banner that shows them.

/** Returns a hint on the browser's network state, or an empty text. */
const offline = () => (navigator.onLine === false ? 'The browser says that it is offline. ' : '');

/** The browser cannot create an RTCPeerConnection: it does not support it, or (Firefox) it is offline. */
export function noPeer(error) {
  if (typeof RTCPeerConnection === 'undefined') {
    return 'This browser has no WebRTC, or an extension or a setting has switched it off.';
  }
  if (navigator.onLine === false || /network/i.test(error.message)) {
    return (
      'The browser is offline, and makes no connections for calls then, not even to its own machine. ' +
      'Connect to a network; in Firefox also look whether File › Work Offline is on.'
    );
  }
  return `The browser refuses: ${error.message}.`;
}

/** The signalling connection ended, or was never established. */
export function noSignal(opened) {
  const what = opened ? 'was lost' : 'cannot be made: it does not answer';
  return `${offline()}The connection to the bridge at ${location.host} ${what}.`;
}

/** Nothing has arrived over the open signalling connection. */
export function silence(seconds) {
  return `${offline()}Nothing has come from the bridge at ${location.host} for ${seconds} seconds.`;
}

/** Returns why media does not flow over a peer connection, as far as the page can tell. */
export function noMedia(peer) {
  const { iceConnectionState: ice, iceGatheringState: gathering } = peer.pc;
  // Firefox fails at once, without the end of gathering.
  const searched = gathering === 'complete' || ice === 'failed' || peer.answered;
  if (ice === 'connected' || ice === 'completed') {
    return 'The bridge was reached, but browser and bridge could not agree on encryption (DTLS).';
  }
  if (searched && !peer.gathered) {
    return (
      `${offline()}The browser has no network address to offer for the call: it is offline (in Firefox ` +
      'also by File › Work Offline), or an extension or a setting keeps WebRTC from the network.'
    );
  }
  const to = peer.remoteAddresses().slice(0, 2).join(' or ');
  const where = to ? ` at ${to}` : '';
  if (peer.connected) return `${offline()}Nothing comes from the bridge${where} any more.`;
  return (
    `${offline()}The bridge’s media port${where} does not answer this browser. ` +
    'A firewall, a VPN or a container in between may let no UDP through.'
  );
}

/** The banner above the call. */
export class Banner {
  /** `retry()` is called when its button is pressed. */
  constructor(element, retry) {
    this.element = element;
    this.button = element.querySelector('button');
    this.button.onclick = retry;
  }

  /** Shows a title and a cause. An unchanged banner is not announced again to screen readers. */
  show(title, cause, { retry = false } = {}) {
    const set = (selector, text) => {
      const part = this.element.querySelector(selector);
      if (part.textContent !== text) part.textContent = text;
    };
    set('b', title);
    set('.text > span', cause);
    this.button.hidden = !retry;
    this.element.hidden = false;
  }

  hide() {
    this.element.hidden = true;
  }
}
