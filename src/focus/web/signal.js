// The signalling WebSocket. message.rs describes its messages.

export class Signal {
  /**
   * `handlers`: a function for each type of message, and `lost(opened)`, which is called when the
   * connection ends, even if it never opened.
   */
  constructor(room, name, handlers) {
    const url = new URL('/_rialto/ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({ room, name });
    this.handlers = handlers;
    this.opened = false;
    /** Seconds without a message, counted by `tick`. */
    this.silent = 0;
    // Messages are handled one after the other, even if a handler waits.
    this.queue = Promise.resolve();
    this.socket = new WebSocket(url);
    this.socket.onopen = () => {
      this.opened = true;
    };
    this.socket.onmessage = ({ data }) => {
      this.silent = 0;
      const message = JSON.parse(data);
      this.queue = this.queue
        .then(() => this.handlers[message.type]?.(message))
        .catch((error) => console.error(`cannot handle ${message.type}:`, error));
    };
    this.socket.onclose = () => {
      this.queue = this.queue.then(() => this.handlers.lost?.(this.opened));
    };
  }

  /**
   * Must be called every second. Returns for how many of them nothing has arrived; the bridge sends a
   * message every second. Calls are counted because the clock also runs while a browser suspends a page.
   */
  tick() {
    return (this.silent += 1);
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.handlers = {};
    this.socket.close();
  }
}
