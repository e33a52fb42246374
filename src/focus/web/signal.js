// The signalling WebSocket. Messages are described in message.rs.

export class Signal {
  /** `handlers`: a function for each type of message, and `lost` for the end of the connection. */
  constructor(room, name, handlers) {
    const url = new URL('/_rialto/ws', location.href);
    url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    url.search = new URLSearchParams({ room, name });
    this.handlers = handlers;
    // Messages are handled one after the other, also where handling waits.
    this.queue = Promise.resolve();
    this.socket = new WebSocket(url);
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      this.queue = this.queue
        .then(() => this.handlers[message.type]?.(message))
        .catch((error) => console.error(`cannot handle ${message.type}:`, error));
    };
    this.socket.onclose = () => {
      this.queue = this.queue.then(() => this.handlers.lost?.());
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  close() {
    this.handlers = {};
    this.socket.close();
  }
}
