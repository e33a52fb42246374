// The small plot of a tile: the page's measurement (line), the bitrate that the bridge forwards or receives
// (second line), and losses as bars from below.

const POINTS = 60;

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = [];
  }

  /** Adds one second: bits per second at the page and at the bridge (null if unknown), loss 0..1. */
  add(page, bridge, loss) {
    this.points.push({ page, bridge, loss });
    if (this.points.length > POINTS) this.points.shift();
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const g = canvas.getContext('2d');
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const top = Math.max(64_000, ...this.points.flatMap(({ page, bridge }) => [page, bridge ?? 0])) * 1.1;
    const x = (index) => width - ((this.points.length - 1 - index) * width) / (POINTS - 1);
    const y = (bps) => height - 1.5 - (bps / top) * (height - 3);

    g.fillStyle = '#f87171';
    this.points.forEach(({ loss }, index) => {
      if (loss > 0) g.fillRect(x(index) - 1, height, 2, -Math.max(2, Math.min(1, loss * 5) * height));
    });
    g.strokeStyle = '#ffffff22';
    g.beginPath();
    g.moveTo(0, height - 0.5);
    g.lineTo(width, height - 0.5);
    g.stroke();
    this.#line(g, '#2dd4bf', [], x, y, 'page', height);
    this.#line(g, '#fbbf24', [3, 3], x, y, 'bridge', 0);
  }

  #line(g, colour, dash, x, y, key, fillTo) {
    const known = this.points.map((point, index) => [index, point[key]]).filter(([, v]) => v !== null);
    if (known.length < 2) return;
    g.beginPath();
    known.forEach(([index, value]) => g.lineTo(x(index), y(value)));
    g.strokeStyle = colour;
    g.lineWidth = 1.5;
    g.setLineDash(dash);
    g.stroke();
    g.setLineDash([]);
    if (!fillTo) return;
    g.lineTo(x(known[known.length - 1][0]), fillTo);
    g.lineTo(x(known[0][0]), fillTo);
    g.fillStyle = `${colour}2e`;
    g.fill();
  }
}
