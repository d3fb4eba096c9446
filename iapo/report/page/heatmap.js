// The signed shares of a picture's tokens over the picture: red where they speak for the call, blue against it.

const LEVELS = 127;
const RAMP = [[33, 102, 172], [146, 197, 222], [247, 247, 247], [244, 165, 130], [178, 24, 43]];
const HEAT_SHARES = "signed token shares: a token\u2019s score over the sum of all prompt tokens\u2019 absolute scores";
const choice = { who: "student", opacity: 0.7 };

function sharesOf(grid) {
  const bytes = Uint8Array.from(atob(grid.data), (character) => character.charCodeAt(0));
  return Array.from(new Int8Array(bytes.buffer), (level) => (level / LEVELS) * grid.most);
}

// `part` runs from -1 to 1.
function rampColour(part) {
  const place = ((part + 1) / 2) * (RAMP.length - 1);
  const below = Math.min(RAMP.length - 2, Math.floor(place));
  return RAMP[below].map((from, channel) => Math.round(from + (RAMP[below + 1][channel] - from) * (place - below)));
}

// What hardly counts lets the picture through.
function heatAlpha(part) {
  return 0.15 + 0.85 * Math.sqrt(Math.abs(part));
}

function paintGrid(canvas, grid, limit) {
  canvas.width = grid.columns;
  canvas.height = grid.rows;
  const pixels = new ImageData(grid.columns, grid.rows);
  sharesOf(grid).forEach((share, place) => {
    const part = limit ? share / limit : 0;
    pixels.data.set([...rampColour(part), 255 * heatAlpha(part)], 4 * place);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Puts a map over each picture's frame, all on one colour scale; returns the controls of all of them. Of the lists of
// grids by whose they are, earlier versions have the first picture's alone.
function makeHeat(frames, patches) {
  const names = ["student", "teacher"].filter((who) => patches[who]);
  const limit = Math.max(...names.flatMap((who) => patches[who].map((grid) => grid.most)));
  const reading = element("p", { class: "reading" });
  const current = () => (names.includes(choice.who) ? choice.who : names[0]);
  const called = (place) => (frames.length > 1 ? `picture ${place + 1}` : "the picture");
  const hold = (grid, place) => `${called(place)}\u2019s ${grid.rows} \u00d7 ${grid.columns} tokens hold ${percent(grid.sum)}`;
  const maps = frames.flatMap((frame, place) => {
    // A picture that is not there is told by a frame of its own kind.
    if (!frame.querySelector("img") || !names.every((who) => patches[who][place])) return [];
    const canvas = element("canvas", { class: "heat-map", role: "img" });
    frame.append(canvas);
    return [{ frame, canvas, place, grid: () => patches[current()][place] }];
  });
  const show = () => {
    const shown = choice.who === "none" ? [] : maps;
    for (const { canvas, place, grid } of maps) {
      canvas.hidden = !shown.length;
      paintGrid(canvas, grid(), limit);
      canvas.style.opacity = choice.opacity;
      canvas.setAttribute("aria-label", `Heat map, ${current()}: ${hold(grid(), place)} of all absolute token scores`);
    }
    reading.textContent = shown.length ? `${current()}: ${shown.map(({ grid, place }) => hold(grid(), place)).join(", ")} of all absolute token scores.` : "";
  };
  for (const { canvas, place, grid } of maps) {
    canvas.addEventListener("pointermove", (event) => {
      const { rows, columns } = grid();
      const column = Math.min(columns - 1, Math.max(0, Math.floor((event.offsetX / canvas.clientWidth) * columns)));
      const row = Math.min(rows - 1, Math.max(0, Math.floor((event.offsetY / canvas.clientHeight) * rows)));
      const where = frames.length > 1 ? `${called(place)}, ` : "";
      reading.textContent = `${current()}, ${where}row ${row + 1}, column ${column + 1}: ${percent(sharesOf(grid())[row * columns + column], 2, true)}`;
    });
    canvas.addEventListener("pointerleave", show);
  }
  const radio = (who) => {
    const input = element("input", { type: "radio", name: "heat", value: who, checked: who === (choice.who === "none" ? "none" : current()) });
    input.addEventListener("change", () => {
      choice.who = who;
      show();
    });
    return element("label", {}, input, who);
  };
  const slider = element("input", { type: "range", id: "opacity", min: "0", max: "1", step: "0.05", value: String(choice.opacity) });
  slider.addEventListener("input", () => {
    choice.opacity = Number(slider.value);
    for (const { canvas } of maps) canvas.style.opacity = choice.opacity;
  });
  const ends = [number(-100 * limit, 1), number(100 * limit, 1, true)].map((text) => element("span", { text: `${text}\u2009%` }));
  show();
  const rowsOfGrid = (grid) => {
    const shares = sharesOf(grid).map((share) => share.toPrecision(4));
    return Array.from({ length: grid.rows }, (_, row) => shares.slice(row * grid.columns, (row + 1) * grid.columns));
  };
  const takes = maps.map(({ frame, place, grid }) => {
    const name = frames.length > 1 ? `Heat map of ${called(place)}` : "Heat map";
    return takeAlong(name, {
      csv: () => csvOf(rowsOfGrid(grid())),
      svg: () => heatSvg(`${name}, ${current()}`, HEAT_SHARES, frame.querySelector("img"), grid(), limit),
    });
  });
  return element(
    "div",
    { class: "heat" },
    element("fieldset", {}, element("legend", { text: "Heat map" }), ...names.map(radio), radio("none")),
    element("label", {}, "Opacity", slider),
    element("div", { class: "scale" }, ends[0], element("span", { class: "ramp" }), ends[1]),
    reading,
    element("p", { class: "caption", text: `${HEAT_SHARES[0].toUpperCase()}${HEAT_SHARES.slice(1)}.` }),
    ...takes,
  );
}
