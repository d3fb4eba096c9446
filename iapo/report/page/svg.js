// Figures as SVG: the charts, bars and heat maps of the page, drawn again for paper (dark on white) with title and legend.

const SVG = "http://www.w3.org/2000/svg";
const INK = "#1f1e1c";
const FAINT = "#8b867d";

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Characters that XML does not have, and halves of surrogate pairs, would make the file unreadable.
function svgWord(text, attributes) {
  const whole = text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|[^\t\n\r\u0020-\ufffd]/g, "\ufffd");
  return svg("text", { "font-size": 12, fill: INK, ...attributes }, document.createTextNode(whole));
}

function sheet(width, height, title, ...children) {
  const all = [svg("rect", { width, height, fill: "#ffffff" }), svgWord(title, { x: 12, y: 22, "font-size": 14, "font-weight": 600 }), ...children];
  return svg("svg", { xmlns: SVG, width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "Helvetica, Arial, 'DejaVu Sans', sans-serif" }, ...all);
}

function svgText(drawing) {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(drawing)}\n`;
}

function svgToPng(drawing, scale = 2) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => {
      const canvas = element("canvas");
      canvas.width = scale * Number(drawing.getAttribute("width"));
      canvas.height = scale * Number(drawing.getAttribute("height"));
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the figure is too large for a PNG"))), "image/png");
    };
    image.onerror = () => reject(new Error("the figure cannot be drawn"));
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgText(drawing))}`;
  });
}

// About `count` round numbers from low to high.
function niceTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= raw * 0.999);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

function chartSvg({ title, about, xLabel, yLabel, unit, steps, lines, range }) {
  const [width, top, left, right, plotHeight] = [680, 52, 68, 16, 260];
  const height = top + plotHeight + 54 + 18 * Math.ceil(lines.length / 3);
  const [low, high] = range;
  const first = steps[0];
  const last = steps[steps.length - 1];
  const x = (step) => left + (last === first ? 0.5 : (step - first) / (last - first)) * (width - left - right);
  const y = (value) => top + (1 - (value - low) / (high - low || 1)) * plotHeight;
  const round = (value) => Number(value.toFixed(2));
  const path = (values) => {
    let pen = "M";
    return values.map((value, place) => {
      if (value === null || value === undefined) return "";
      const point = `${pen}${round(x(steps[place]))} ${round(y(value))}`;
      pen = "L";
      return point;
    }).join("");
  };
  const drawn = [svgWord(about, { x: 12, y: 39, "font-size": 11, fill: "#5c5953" })];
  for (const tick of niceTicks(low, high, 5)) {
    drawn.push(svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), stroke: "#dedad3" }));
    drawn.push(svgWord(axisNumber(tick, unit), { x: left - 6, y: y(tick) + 4, "text-anchor": "end", "font-size": 11 }));
  }
  for (const tick of niceTicks(first, last, 8).filter(Number.isInteger)) {
    drawn.push(svg("line", { x1: x(tick), x2: x(tick), y1: top + plotHeight, y2: top + plotHeight + 4, stroke: FAINT }));
    drawn.push(svgWord(String(tick), { x: x(tick), y: top + plotHeight + 17, "text-anchor": "middle", "font-size": 11 }));
  }
  drawn.push(svg("line", { x1: left, x2: width - right, y1: top + plotHeight, y2: top + plotHeight, stroke: FAINT }));
  drawn.push(svgWord(xLabel, { x: (left + width - right) / 2, y: top + plotHeight + 36, "text-anchor": "middle" }));
  drawn.push(svgWord(yLabel, { x: 0, y: 0, "text-anchor": "middle", transform: `translate(16 ${top + plotHeight / 2}) rotate(-90)` }));
  lines.forEach((line, number) => {
    if (line.low) {
      const places = steps.map((_, place) => place).filter((place) => line.low[place] !== null && line.high[place] !== null);
      const points = [...places.map((place) => [place, line.high]), ...places.reverse().map((place) => [place, line.low])];
      drawn.push(svg("polygon", { points: points.map(([place, values]) => `${round(x(steps[place]))},${round(y(values[place]))}`).join(" "), fill: line.stroke, "fill-opacity": 0.17 }));
    }
    if (line.faint) drawn.push(svg("path", { d: path(line.faint), fill: "none", stroke: line.stroke, "stroke-opacity": 0.35 }));
    drawn.push(svg("path", { d: path(line.values), fill: "none", stroke: line.stroke, "stroke-width": 2, "stroke-dasharray": line.dash ? line.dash.join(" ") : null }));
    const [legendX, legendY] = [left + (number % 3) * 205, top + plotHeight + 56 + 18 * Math.floor(number / 3)];
    drawn.push(svg("line", { x1: legendX, x2: legendX + 22, y1: legendY, y2: legendY, stroke: line.stroke, "stroke-width": 2, "stroke-dasharray": line.dash ? line.dash.join(" ") : null }));
    drawn.push(svgWord(cutText(line.label, 26), { x: legendX + 28, y: legendY + 4 }));
  });
  return sheet(width, height, title, ...drawn);
}

function cutText(text, most) {
  const characters = Array.from(text);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}\u2026` : text;
}

// Bars of shares, a pair for each block.
function barsSvg(title, about, names, series) {
  const [width, left, right, top] = [680, 190, 64, 52];
  const rowHeight = 12 * series.length + 10;
  const height = top + names.length * rowHeight + 40 + 18;
  const most = Math.max(1e-9, ...series.flatMap((one) => one.values.map(Math.abs)));
  const long = (value) => (Math.abs(value) / most) * (width - left - right);
  const drawn = [svgWord(about, { x: 12, y: 39, "font-size": 11, fill: "#5c5953" })];
  names.forEach((name, row) => {
    const y = top + row * rowHeight;
    drawn.push(svgWord(cutText(name, 28), { x: left - 8, y: y + rowHeight / 2, "text-anchor": "end", "font-size": 11 }));
    series.forEach((one, place) => {
      const value = one.values[row];
      drawn.push(svg("rect", { x: left, y: y + 12 * place, width: long(value), height: 10, fill: one.colour, "fill-opacity": value < 0 ? 0.5 : 1 }));
      drawn.push(svgWord(percent(value, 1), { x: left + long(value) + 4, y: y + 12 * place + 9, "font-size": 10 }));
    });
  });
  const end = top + names.length * rowHeight;
  drawn.push(svgWord("share of the attribution (%)", { x: (left + width - right) / 2, y: end + 14, "text-anchor": "middle" }));
  series.forEach((one, place) => {
    drawn.push(svg("rect", { x: left + place * 120, y: end + 30, width: 14, height: 10, fill: one.colour }));
    drawn.push(svgWord(one.label, { x: left + place * 120 + 20, y: end + 39 }));
  });
  return sheet(width, height, title, ...drawn);
}

// A heat map over its picture, where the picture is inside the page, with its colour scale.
function heatSvg(title, about, image, grid, limit) {
  const width = 520;
  const shape = image && image.naturalWidth ? image.naturalHeight / image.naturalWidth : grid.rows / grid.columns;
  const [side, top] = [width - 24, 52];
  const tall = side * shape;
  const drawn = [svgWord(about, { x: 12, y: 39, "font-size": 11, fill: "#5c5953" })];
  if (image && image.src.startsWith("data:")) drawn.push(svg("image", { href: image.src, x: 12, y: top, width: side, height: tall, preserveAspectRatio: "none" }));
  sharesOf(grid).forEach((share, place) => {
    const part = limit ? share / limit : 0;
    const [row, column] = [Math.floor(place / grid.columns), place % grid.columns];
    drawn.push(
      svg("rect", {
        x: 12 + (column / grid.columns) * side,
        y: top + (row / grid.rows) * tall,
        width: side / grid.columns,
        height: tall / grid.rows,
        fill: `rgb(${rampColour(part).join(",")})`,
        "fill-opacity": (heatAlpha(part) * 0.7).toFixed(3),
      }),
    );
  });
  const below = top + tall + 22;
  RAMP.forEach((colour, place) => drawn.push(svg("rect", { x: 160 + 40 * place, y: below - 9, width: 40, height: 9, fill: `rgb(${colour.join(",")})` })));
  drawn.push(svgWord(percent(-limit, 1), { x: 154, y: below, "text-anchor": "end" }), svgWord(percent(limit, 1, true), { x: 366, y: below }));
  return sheet(width, below + 14, title, ...drawn);
}
