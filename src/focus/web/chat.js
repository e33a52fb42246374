// Chat between pages over the bridge channel.

/** Maximum lines kept. */
const MOST = 200;

export class Chat {
  /**
   * `element`: the panel. `on.send(message)` sends over the channel and returns whether it could;
   * `on.shown(boolean)` is called after the panel opened or closed; `on.unsent()` when nothing was sent.
   */
  constructor(element, on) {
    this.element = element;
    this.on = on;
    this.lines = [];
    this.list = element.querySelector('ol');
    this.input = element.querySelector('input');
    element.querySelector('form').onsubmit = (event) => {
      event.preventDefault();
      const text = this.input.value.trim();
      if (text && this.#say(text)) this.input.value = '';
    };
    element.querySelector('button.close').onclick = () => this.show(false);
  }

  get shown() {
    return !this.element.hidden;
  }

  show(shown) {
    if (this.shown === shown) return;
    this.element.hidden = !shown;
    this.on.shown(shown);
    if (shown) {
      this.list.scrollTop = this.list.scrollHeight;
      this.input.focus();
    }
  }

  /** Returns the text of a message of the channel, if it is a chat message. */
  heard({ colibriClass, msgPayload }, name) {
    if (colibriClass !== 'EndpointMessage' || typeof msgPayload?.chat !== 'string') return null;
    this.#add(name, msgPayload.chat);
    return msgPayload.chat;
  }

  #say(text) {
    const said = this.on.send({ colibriClass: 'EndpointMessage', to: '', msgPayload: { chat: text } });
    if (said) this.#add('You', text);
    else this.on.unsent();
    return said;
  }

  #add(name, text) {
    this.lines.push({ name, text });
    const line = document.createElement('li');
    line.append(Object.assign(document.createElement('b'), { textContent: name }), ` ${text}`);
    this.list.append(line);
    while (this.list.children.length > MOST) this.list.firstChild.remove();
    this.lines.splice(0, this.lines.length - MOST);
    this.list.scrollTop = this.list.scrollHeight;
  }
}
