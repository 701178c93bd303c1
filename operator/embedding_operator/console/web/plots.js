// Line plots as SVG, out of series of [seconds since 1970, value].
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 96, LEFT = 34, BOTTOM = 16, TOP = 6, COLOURS = 6;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function number(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 1000) return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  return Number(value.toPrecision(2)).toString();
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
}

function picture(plot) {
  const points = plot.series.flatMap((series) => series.points);
  const times = points.map((point) => point[0]), values = points.map((point) => point[1]);
  const first = Math.min(...times), last = Math.max(...times), most = Math.max(...values) || 1;
  const x = (at) => LEFT + ((at - first) / (last - first || 1)) * (WIDTH - LEFT - 4);
  const y = (value) => TOP + (1 - value / most) * (HEIGHT - TOP - BOTTOM);
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  for (const value of [0, most]) {
    svg.append(shape("line", { class: "axis", x1: LEFT, x2: WIDTH - 4, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { x: LEFT - 6, y: y(value) + 3.5, "text-anchor": "end" }, number(value)));
  }
  svg.append(shape("text", { x: LEFT, y: HEIGHT - 3 }, clock(first)));
  svg.append(shape("text", { x: WIDTH - 4, y: HEIGHT - 3, "text-anchor": "end" }, clock(last)));
  plot.series.forEach((series, index) => {
    const path = series.points.map((point) => `${x(point[0]).toFixed(1)},${y(point[1]).toFixed(1)}`);
    svg.append(shape("polyline", { class: `s${index % COLOURS}`, points: path.join(" ") }));
  });
  return svg;
}

export function draw(plot) {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.textContent = plot.title;
  figure.append(caption);
  const legend = document.createElement("p");
  legend.className = "legend";
  const shown = plot.series.filter((series) => series.points.length > 0);
  if (shown.length === 0) {
    legend.textContent = "No data yet.";
  } else {
    figure.append(picture({ ...plot, series: shown }));
    shown.forEach((series, index) => {
      const entry = document.createElement("span"), words = document.createElement("b");
      entry.className = `s${index % COLOURS}`;
      words.textContent = `${series.name} ${number(series.points.at(-1)[1])}${plot.unit}`;
      entry.append(words);
      legend.append(entry);
    });
  }
  figure.append(legend);
  return figure;
}
