// The signalling WebSocket. Messages are described in message.rs.

export class Signal {
  /**
   * `handlers`: a function for each type of message, and `lost(opened)` for the end of the
   * connection, which may never have been open.
   */
  constructor(room, name, handlers) {
    const url = new URL('/_rialto/ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({ room, name });
    this.handlers = handlers;
    this.opened = false;
    /** Seconds in which nothing came, as `tick` counts them. */
    this.silent = 0;
    // Messages are handled one after the other, also where handling waits.
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
   * To be called every second: for how many of them nothing has come. The bridge says something every
   * second. They are counted, since the clock also runs while a browser rests a page.
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
