// Curves over steps and the case study, drawn by uPlot; all charts share one cursor and one legend.

const SERIES_COLOURS = 9;
const charts = [];

function colourOf(place) {
  return css(`--series-${place % SERIES_COLOURS}`);
}

// A centred moving mean; missing values are left out of it, and stay missing.
function smooth(values, width) {
  const half = Math.floor(width / 2);
  return values.map((value, place) => {
    if (value === null || half === 0) return value;
    const near = values.slice(Math.max(0, place - half), place + half + 1).filter((one) => one !== null);
    return near.reduce((sum, one) => sum + one, 0) / near.length;
  });
}

function lastPlace(values) {
  for (let place = values.length - 1; place >= 0; place--) if (values[place] !== null) return place;
  return -1;
}

function yRange(unit, fixed) {
  return (plot, low, high) => {
    if (low === null || high === null) return [0, 1];
    const pad = Math.max((high - low) * 0.08, unit === "share" ? 0.015 : 1e-3);
    const ends = [Math.max(unit === "free" ? -Infinity : 0, low - pad), high + pad];
    return unit === "share" && fixed ? [ends[0], Math.min(1.004, ends[1])] : ends;
  };
}

// The unit of an axis as its label says it; a plain number has none.
function unitText(unit) {
  return { share: " (%)", nats: " (nats)" }[unit] || "";
}

function axisNumber(tick, unit) {
  return unit === "share" ? `${+(100 * tick).toFixed(1)}` : `${+tick.toFixed(4)}`;
}

const STEP_LABEL = "optimiser step";

// One chart. `lines`: label, colour (a function), values, low and high for a band, faint (values behind), exact (the values
// where `values` is their moving mean), dash.
class Chart {
  constructor(place, title, unit, about, steps, lines) {
    Object.assign(this, { title, unit, about, steps, lines });
    this.reading = element("span", { class: "reading" });
    this.box = element("div", { class: "plot", role: "img" });
    const name = element("span", { class: "name", text: `${title} ` }, element("span", { class: "unit", text: about }));
    const take = takeAlong(title, { csv: () => csvOf(this.rows()), svg: () => this.svg() });
    place.append(element("figure", { class: "chart" }, element("figcaption", {}, name, this.reading), this.box, take));
    this.draw();
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(this.box);
    charts.push(this);
  }

  size() {
    return { width: Math.max(120, this.box.clientWidth), height: 214 };
  }

  draw() {
    if (this.plot) this.plot.destroy();
    const data = [this.steps];
    const series = [{}];
    const bands = [];
    for (const line of this.lines) {
      if (line.hidden) continue;
      const stroke = line.colour();
      if (line.low) {
        bands.push({ series: [data.length, data.length + 1], fill: `color-mix(in srgb, ${stroke} 17%, transparent)` });
        for (const values of [line.high, line.low]) {
          data.push(values);
          series.push({ stroke: "transparent", width: 0, points: { show: false }, spanGaps: true });
        }
      }
      if (line.faint) {
        data.push(line.faint);
        series.push({ stroke: `color-mix(in srgb, ${stroke} 30%, transparent)`, width: 1, points: { show: false } });
      }
      const alone = line.values.filter((value) => value !== null).length < 2;
      data.push(line.values);
      series.push({ stroke, width: 2, dash: line.dash, points: { show: alone, size: 6, fill: stroke }, spanGaps: true });
    }
    const ink = css("--soft");
    const axis = {
      stroke: ink,
      font: `11px ${css("--sans")}`,
      grid: { stroke: css("--rule"), width: 1 },
      ticks: { stroke: css("--rule"), width: 1, size: 4 },
    };
    const labels = (plot, ticks) => ticks.map((tick) => axisNumber(tick, this.unit));
    const label = { labelSize: 18, labelGap: 0, labelFont: `11px ${css("--sans")}` };
    this.plot = new uPlot(
      {
        ...this.size(),
        series,
        bands,
        legend: { show: false },
        padding: [8, 8, 0, 0],
        scales: { x: { time: false }, y: { range: yRange(this.unit, true) } },
        axes: [
          { ...axis, ...label, label: STEP_LABEL, size: 26, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
          { ...axis, ...label, label: this.yLabel(), size: 42, values: labels },
        ],
        cursor: { sync: { key: "step" }, drag: { x: false, y: false }, y: false, points: { show: false } },
        hooks: { setCursor: [(plot) => this.read(plot.cursor.idx)] },
      },
      data,
      this.box,
    );
    this.read(null);
  }

  yLabel() {
    return `${this.title.replace(/:.*/s, "").toLowerCase()}${unitText(this.unit)}`;
  }

  // A moving mean has the value itself beside it.
  read(place) {
    const none = place === null || place === undefined;
    const shown = this.lines.filter((line) => !line.hidden && !line.dash);
    const text = (line) => {
      const exact = line.exact || line.values;
      const at = none ? lastPlace(exact) : place;
      if (at < 0 || exact[at] === null) return `${line.label} ${DASH}`;
      const raw = inUnit(exact[at], this.unit);
      return line.smoothed ? `${line.label} ${inUnit(line.values[at], this.unit)} (raw ${raw})` : `${line.label} ${raw}`;
    };
    const values = shown.map(text).join(", ");
    const step = none ? "last" : `step ${this.steps[place]}`;
    const means = shown.some((line) => line.smoothed) ? ", smoothed" : "";
    if (shown.length <= 4) this.reading.textContent = `${step}${means}: ${values}`;
    else this.reading.textContent = step === "last" ? "" : step;
    this.box.setAttribute("aria-label", `${this.title}${unitText(this.unit)} over ${this.steps.length} steps; ${step}${means}: ${values}`);
  }

  // The numbers of the chart: a row for each step; the values themselves, never their means.
  rows() {
    const lines = this.lines.filter((line) => !line.hidden);
    const columns = lines.flatMap((line) => {
      const named = [[`${line.label}${unitText(this.unit) && ` [${this.unit}]`}`, line.exact || line.values]];
      return line.low ? [...named, [`${line.label} low`, line.exactLow || line.low], [`${line.label} high`, line.exactHigh || line.high]] : named;
    });
    const body = this.steps.map((step, place) => [step, ...columns.map(([, values]) => (values[place] === null ? "" : values[place]))]);
    return [["step", ...columns.map(([name]) => name)], ...body];
  }

  svg() {
    const { min, max } = this.plot.scales.y;
    const lines = this.lines.filter((line) => !line.hidden).map((line) => ({ ...line, stroke: line.colour() }));
    return chartSvg({ title: this.title, about: this.about, xLabel: STEP_LABEL, yLabel: this.yLabel(), unit: this.unit, steps: this.steps, lines, range: [min, max] });
  }
}

function startCurves(found) {
  const place = document.getElementById("charts");
  if (!place) return;
  const labels = [...new Set(found.charts.flatMap((chart) => chart.series.map((line) => line.label)))];
  const smoothing = document.getElementById("smoothing");
  const hidden = new Set();
  const linesOf = (chart) => {
    const width = chart.key === "attribution/lambda" ? 1 : Number(smoothing.value);
    return chart.series.map((line) => ({
      label: line.label,
      hidden: hidden.has(line.label),
      colour: () => colourOf(labels.indexOf(line.label)),
      values: smooth(line.mean, width),
      low: line.low && smooth(line.low, width),
      high: line.high && smooth(line.high, width),
      faint: width > 1 && !line.low ? line.mean : null,
      exact: line.mean,
      exactLow: line.low,
      exactHigh: line.high,
      smoothed: width > 1,
    }));
  };
  const made = found.charts.map((chart) => [chart, new Chart(place, chart.title, chart.unit, chart.about, chart.steps, linesOf(chart))]);
  const redraw = () => {
    for (const [chart, drawn] of made) {
      drawn.lines = linesOf(chart);
      drawn.draw();
    }
  };
  smoothing.addEventListener("change", redraw);
  const runsOf = (label) => Math.max(...found.charts.flatMap((chart) => chart.series.filter((line) => line.label === label).map((line) => line.runs)));
  labels.forEach((label, number) => {
    const swatch = element("span", { class: "swatch" });
    const paint = () => (swatch.style.background = colourOf(number));
    paint();
    document.addEventListener("themechange", paint);
    const text = runsOf(label) > 1 ? `${label} (${runsOf(label)} seeds)` : label;
    const button = element("button", { type: "button", "aria-pressed": "true" }, swatch, element("span", { text }));
    button.addEventListener("click", () => {
      const hide = !hidden.has(label);
      if (hide) hidden.add(label);
      else hidden.delete(label);
      button.setAttribute("aria-pressed", String(!hide));
      redraw();
    });
    document.getElementById("legend").append(button);
  });
}

function startStudies(found) {
  const place = document.getElementById("studies");
  if (!place) return;
  const part = (points, key, end) => points.map((point) => (point[key] ? point[key][end] : null));
  const line = (label, colour, points, key) => ({
    label,
    colour,
    values: part(points, key, "value"),
    low: part(points, key, "low"),
    high: part(points, key, "high"),
  });
  const steps = [...new Set(found.studies.flatMap((study) => study.points.map((point) => point.step)))].sort((a, b) => a - b);
  const spread = (study) => steps.map((step) => study.points.find((point) => point.step === step) || {});
  const misuse = found.studies.map((study, number) => line(study.run, () => colourOf(number), spread(study), "misuse"));
  new Chart(place, "Misuse", "share", "of executed calls", steps, misuse);
  for (const study of found.studies) {
    const own = study.points.map((point) => point.step);
    const kinds = [["right_tools", "right tools", 2], ["wrong_tools", "wrong tools", 6]];
    const lines = kinds.map(([key, label, colour]) => line(label, () => colourOf(colour), study.points, key));
    for (const [key, label, colour] of kinds) {
      const level = study.teacher && study.teacher[key];
      if (level) lines.push({ label: `teacher, ${label}`, colour: () => colourOf(colour), values: own.map(() => level.value), dash: [5, 4] });
    }
    new Chart(place, `Attribution on tools: ${study.run}`, "share", "mean block share", own, lines);
  }
}

document.addEventListener("themechange", () => charts.forEach((chart) => chart.draw()));
