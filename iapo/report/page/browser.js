// The list of traces: filters, search, order, a window of rows, and the address that restores all of it.

const ROW_HEIGHT = 68;
const SPARE_ROWS = 6;
const FILTERS = ["run", "part", "family", "outcome", "misuse", "status"];

const MATCHES = {
  run: (trace, data) => [data.runs[trace.run].name, `method:${data.runs[trace.run].method}`],
  part: (trace) => [trace.part === "training" ? "training" : trace.step === 0 ? "before" : trace.step === null ? "evaluation" : "after"],
  family: (trace, data) => [data.samples[trace.sample].source],
  outcome: (trace) => [trace.outcome === null ? "none" : trace.outcome === 1 ? "right" : "wrong"],
  misuse: (trace) => [trace.misused === null ? "none" : trace.misused ? "misuse" : "right"],
  status: (trace) => [trace.status],
};

const NAMES = {
  part: { training: "training", before: "held out, before", after: "held out, after", evaluation: "held out" },
  outcome: { right: "right", wrong: "wrong", none: "not graded" },
  misuse: { right: "right tools", misuse: "misuse", none: "not judged" },
  status: STATUS_TEXT,
};

class Browser {
  constructor(data, addresses) {
    Object.assign(this, { data, addresses, shown: [], open: null, view: "rollout" });
    this.list = document.getElementById("list");
    this.detail = document.getElementById("detail");
    this.count = document.getElementById("count");
    this.query = document.getElementById("query");
    this.sort = document.getElementById("sort");
    this.direction = document.getElementById("direction");
    this.range = Object.fromEntries(["measure", "least", "most"].map((name) => [name, document.getElementById(name)]));
    this.rows = new Map();
    this.byLink = new Map(data.traces.map((trace, place) => [this.link(trace), place]));
    this.spacer = element("div", { role: "presentation" });
    this.list.append(this.spacer);
    this.fillFilters();
    this.listen();
    this.restore(true);
  }

  link(trace) {
    return `${this.data.runs[trace.run].name}:${trace.id}`;
  }

  fillFilters() {
    for (const name of FILTERS) {
      const select = document.getElementById(name);
      const counts = new Map();
      for (const trace of this.data.traces) for (const value of MATCHES[name](trace, this.data)) counts.set(value, (counts.get(value) || 0) + 1);
      let values = [...counts.keys()];
      if (NAMES[name]) values = [...Object.keys(NAMES[name]).filter((value) => counts.has(value)), ...values.filter((value) => !(value in NAMES[name]))];
      if (name === "run") {
        // A method stands for several runs, and is no choice of its own where it does not.
        const runs = values.filter((value) => !value.startsWith("method:") || this.data.runs.some((run) => run.name === value));
        const methods = values.filter((value) => !runs.includes(value) && this.data.runs.filter((run) => `method:${run.method}` === value).length > 1);
        values = [...methods, ...runs];
      }
      select.append(element("option", { value: "", text: "all" }));
      for (const value of values) {
        const text = name === "run" ? value.replace(/^method:/, "method ") : (NAMES[name] && NAMES[name][value]) || value || "unnamed";
        select.append(element("option", { value, text: `${text} (${counts.get(value).toLocaleString("en")})` }));
      }
      select.addEventListener("change", () => this.filtersChanged());
    }
    const has = (name) => this.data.traces.some((trace) => trace[name] !== null && trace[name] !== undefined);
    for (const [name, text] of Object.entries(ORDERS)) if (!(name in MEASURES) || has(name)) this.sort.append(element("option", { value: name, text }));
    for (const [name, text] of Object.entries(MEASURES)) this.range.measure.append(element("option", { value: name, text }));
  }

  listen() {
    document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
    this.query.addEventListener("input", () => this.filtersChanged());
    document.getElementById("clear").addEventListener("click", () => this.clear());
    this.sort.addEventListener("change", () => this.filtersChanged());
    this.direction.addEventListener("click", () => {
      this.turn(!this.descending);
      this.filtersChanged();
    });
    for (const input of Object.values(this.range)) input.addEventListener("input", () => this.filtersChanged());
    this.list.addEventListener("scroll", () => this.drawRows());
    this.list.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.drawRows()).observe(this.list);
    addEventListener("hashchange", () => this.restore(false));
  }

  get descending() {
    return this.direction.getAttribute("aria-pressed") === "true";
  }

  turn(descending) {
    this.direction.setAttribute("aria-pressed", String(descending));
    this.direction.textContent = descending ? "Descending" : "Ascending";
  }

  clear() {
    this.setControls(new URLSearchParams());
    this.filtersChanged();
  }

  get limits() {
    const end = (input) => (input.value.trim() === "" ? null : Number(input.value));
    return { measure: this.range.measure.value, least: end(this.range.least), most: end(this.range.most) };
  }

  text(trace) {
    if (trace.text === undefined) {
      const sample = this.data.samples[trace.sample];
      const parts = [sample.question, ...sample.answers, sample.id, sample.source, ...trace.turns.map((turn) => turn.text), ...errorsOf(trace), this.link(trace)];
      trace.text = parts.filter((part) => part !== null).join("\n").toLowerCase();
    }
    return trace.text;
  }

  filter() {
    const chosen = FILTERS.map((name) => [name, document.getElementById(name).value]).filter(([, value]) => value !== "");
    const words = this.query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const limits = this.limits;
    const found = [];
    this.data.traces.forEach((trace, place) => {
      const fits = chosen.every(([name, value]) => MATCHES[name](trace, this.data).includes(value)) && inRange(trace, limits);
      if (fits && (!words.length || words.every((word) => this.text(trace).includes(word)))) found.push(place);
    });
    this.shown = sortPlaces(found, this.sort.value, this.descending, this.data);
    this.place = new Map(this.shown.map((trace, row) => [trace, row]));
    const all = this.data.traces.length.toLocaleString("en");
    const cut = this.data.total > this.data.traces.length ? `; the runs have ${this.data.total.toLocaleString("en")}` : "";
    this.count.textContent = `${this.shown.length.toLocaleString("en")} of ${all} traces${cut}`;
    this.spacer.style.height = `${this.shown.length * ROW_HEIGHT}px`;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
  }

  filtersChanged() {
    hideLost();
    this.filter();
    this.list.scrollTop = 0;
    if (!this.place.has(this.open)) this.open = this.shown.length ? this.shown[0] : null;
    history.replaceState(null, "", this.address(this.open));
    this.draw();
  }

  // The address of a trace under the present filters, in the present view or another.
  address(place, view = this.view) {
    const found = new URLSearchParams();
    if (place !== null) found.set("trace", this.link(this.data.traces[place]));
    if (view !== "rollout") found.set("view", view);
    if (this.query.value) found.set("q", this.query.value);
    for (const name of FILTERS) if (document.getElementById(name).value) found.set(name, document.getElementById(name).value);
    if (this.sort.value !== "file" || this.descending) found.set("sort", `${this.descending ? "-" : ""}${this.sort.value}`);
    const { measure, least, most } = this.limits;
    if (least !== null || most !== null) found.set("range", `${measure}:${least ?? ""}:${most ?? ""}`);
    const text = found.toString();
    return text ? `#${text}` : "#traces";
  }

  // Sets the controls as an address asks; returns what of it is not to be had, a sentence, or null.
  setControls(asked) {
    let wrong = null;
    const other = [...asked.keys()].find((name) => !["trace", "view", "q", "sort", "range", ...FILTERS].includes(name));
    if (other !== undefined) wrong = `The address has ${quoted(other)}, which this page does not know.`;
    this.query.value = asked.get("q") || "";
    const choose = (select, value, what) => {
      select.value = value;
      if (select.selectedIndex >= 0) return;
      select.selectedIndex = 0;
      wrong = wrong || `This page has no ${what} ${quoted(value)}.`;
    };
    for (const name of FILTERS) choose(document.getElementById(name), asked.get(name) || "", `traces of the ${name === "misuse" ? "tools" : name}`);
    const order = asked.get("sort") || "file";
    choose(this.sort, order.replace(/^-/, ""), "order by");
    this.turn(order.startsWith("-"));
    const range = readRange(asked.get("range") || "divergence::");
    if (range === null) wrong = wrong || `This page has no range ${quoted(asked.get("range"))}.`;
    this.range.measure.value = range ? range.measure : "divergence";
    for (const end of ["least", "most"]) this.range[end].value = range && range[end] !== null ? String(range[end]) : "";
    this.view = asked.get("view") || "rollout";
    if (!Object.hasOwn(VIEWS, this.view)) {
      wrong = wrong || `This page has no view ${quoted(this.view)}.`;
      this.view = "rollout";
    }
    return wrong;
  }

  // Takes filters and open trace from the address; one without them, such as that of a section, leaves them alone.
  restore(first) {
    const hash = location.hash.slice(1);
    const asked = new URLSearchParams(hash.includes("=") ? hash : "");
    if (!hash.includes("=") && !first) return;
    let wrong = this.setControls(asked);
    this.filter();
    const wanted = this.byLink.get(asked.get("trace"));
    if (asked.has("trace") && wanted === undefined) wrong = `This page has no trace ${quoted(asked.get("trace"))}; it is of another report, or was left out of this one.`;
    this.open = wanted !== undefined ? wanted : wrong === null && this.shown.length ? this.shown[0] : null;
    this.draw();
    this.reveal();
    if (wrong !== null) return showLost(wrong);
    hideLost();
    if (first && hash.includes("=")) (this.narrow() && wanted !== undefined ? this.detail : document.getElementById("traces")).scrollIntoView({ behavior: "instant" });
  }

  choose(place, { push = true, enter = false } = {}) {
    hideLost();
    this.open = place;
    if (push) history.pushState(null, "", this.address(place));
    else history.replaceState(null, "", this.address(place));
    this.draw();
    this.reveal();
    if (enter) {
      this.detail.focus({ preventScroll: true });
      if (this.narrow()) this.detail.scrollIntoView();
    }
  }

  // Whether the detail stands below the list.
  narrow() {
    return this.list.offsetWidth > 0.7 * document.getElementById("traces").offsetWidth;
  }

  step(by) {
    const row = this.place.get(this.open);
    const next = this.shown[row === undefined ? 0 : row + by];
    if (next !== undefined) this.choose(next, { push: false });
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW_HEIGHT) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" && this.open !== null) this.choose(this.open, { enter: true });
    else if (event.key in moves && this.shown.length) {
      const row = this.place.has(this.open) ? this.place.get(this.open) : -1;
      this.choose(this.shown[Math.min(this.shown.length - 1, Math.max(0, row + moves[event.key]))], { push: false });
    } else return;
    event.preventDefault();
  }

  reveal() {
    const row = this.place.get(this.open);
    if (row === undefined) return;
    const top = row * ROW_HEIGHT;
    if (top < this.list.scrollTop) this.list.scrollTop = top;
    else if (top + ROW_HEIGHT > this.list.scrollTop + this.list.clientHeight) this.list.scrollTop = top + ROW_HEIGHT - this.list.clientHeight;
    this.drawRows();
  }

  draw() {
    this.drawRows();
    if (this.open === null) {
      this.detail.replaceChildren(element("p", { class: "empty", text: this.shown.length ? "No trace is open; choose one from the list." : "No trace fits the filters." }));
      return;
    }
    const row = this.place.get(this.open);
    showDetail(this.detail, this.data.traces[this.open], this.data, this.addresses, {
      step: (by) => {
        this.step(by);
        // The detail was made anew, and the button with it.
        const button = document.getElementById(by < 0 ? "previous" : "next");
        (button.disabled ? this.detail : button).focus({ preventScroll: true });
      },
      hasPrevious: row !== undefined && row > 0,
      hasNext: row !== undefined && row + 1 < this.shown.length,
      address: this.address(this.open),
      linkTo: (trace) => this.address(this.byLink.get(this.link(trace))),
      view: this.view,
      choose: (view) => {
        this.view = view;
        history.pushState(null, "", this.address(this.open));
        this.draw();
        document.getElementById(`tab-${view}`).focus({ preventScroll: true });
      },
    });
  }

  drawRows() {
    const from = Math.max(0, Math.floor(this.list.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
    const to = Math.min(this.shown.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_HEIGHT) + SPARE_ROWS);
    for (const [row, made] of this.rows) {
      if (row >= from && row < to) continue;
      made.remove();
      this.rows.delete(row);
    }
    for (let row = from; row < to; row++) if (!this.rows.has(row)) this.rows.set(row, this.makeRow(row));
    for (const [row, made] of this.rows) made.setAttribute("aria-selected", String(this.shown[row] === this.open));
    const active = this.rows.get(this.place.get(this.open));
    if (active) this.list.setAttribute("aria-activedescendant", active.id);
    else this.list.removeAttribute("aria-activedescendant");
  }

  makeRow(row) {
    const trace = this.data.traces[this.shown[row]];
    const sample = this.data.samples[trace.sample];
    const address = this.addresses[sample.picture];
    const called = calledTools(trace);
    const by = this.sort.value in MEASURES ? this.sort.value : null;
    const meta = [this.data.runs[trace.run].name, whenText(trace)].join(" \u00b7 ");
    const made = element(
      "div",
      { class: "row", id: `row-${row}`, role: "option", "aria-setsize": this.shown.length, "aria-posinset": row + 1 },
      address ? element("img", { class: "thumb", src: address, alt: "", loading: "lazy", decoding: "async" }) : element("span", { class: "thumb none" }),
      element("div", {}, element("div", { class: "line", text: sample.question }), element("div", { class: "line meta", text: meta }), element("div", { class: "line meta", text: called || STATUS_TEXT[trace.status] || trace.status })),
      element("div", { class: "marks" }, outcomeTag(trace), callTag(trace), by ? element("span", { class: "tag", text: number(trace[by], 3), title: MEASURES[by] }) : null),
    );
    made.style.top = `${row * ROW_HEIGHT}px`;
    made.addEventListener("click", () => this.choose(this.shown[row], { enter: true }));
    this.list.append(made);
    return made;
  }
}
