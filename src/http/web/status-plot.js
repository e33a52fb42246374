// A small SVG plot of the last two minutes: a filled line, and a second, dashed one.

const SVG = 'http://www.w3.org/2000/svg';
const POINTS = 120;
const WIDTH = 240;
const HEIGHT = 40;

/** Makes an SVG element with these attributes. */
export function svg(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export class Plot {
  /** `floor`: the minimum of the scale's upper end, so that noise looks like noise. */
  constructor(floor) {
    this.floor = floor;
    this.points = [];
    this.element = svg('svg', {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'plot', role: 'img',
    });
    this.element.append(svg('path', { class: 'base', d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }));
    this.area = this.element.appendChild(svg('path', { class: 'area' }));
    this.line = this.element.appendChild(svg('path', { class: 'line' }));
    this.second = this.element.appendChild(svg('path', { class: 'second' }));
  }

  /** Adds one second: the value, the one to compare it with (null if unknown), and both in words. */
  add(value, other, words) {
    this.points.push([value, other]);
    if (this.points.length > POINTS) this.points.shift();
    this.element.setAttribute('aria-label', words);
    const top = Math.max(this.floor, ...this.points.flat().filter((v) => v !== null)) * 1.08;
    const x = (at) => WIDTH - ((this.points.length - 1 - at) * WIDTH) / (POINTS - 1);
    const y = (v) => HEIGHT - 1 - (v / top) * (HEIGHT - 2);
    const path = (series) => {
      let text = '';
      let down = false;
      this.points.forEach((point, at) => {
        const v = point[series];
        if (v !== null) text += `${down ? 'L' : 'M'}${x(at).toFixed(1)} ${y(v).toFixed(1)}`;
        down = v !== null;
      });
      return text;
    };
    const line = path(0);
    this.line.setAttribute('d', line);
    this.area.setAttribute('d', line ? `${line}L${WIDTH} ${HEIGHT}L${x(0).toFixed(1)} ${HEIGHT}Z` : '');
    this.second.setAttribute('d', path(1));
  }
}
