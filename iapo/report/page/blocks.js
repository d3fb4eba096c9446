// The shares of a prompt's blocks in the attribution of a call, as bars.

const bars = { enlarged: true };

function blockBars(trace, names, run) {
  const called = new Set(callsOf(trace).map((call) => `tool:${call.name}`));
  const who = ["student", "teacher"].filter((one) => trace.shares[one]);
  const most = (places) => Math.max(1e-9, ...who.flatMap((one) => places.map((place) => Math.abs(trace.shares[one][place]))));
  const all = names.map((_, place) => place);
  const rest = all.filter((place) => !names[place].startsWith("image"));
  const box = element("div", { class: "blocks" });
  const draw = () => {
    const scale = most(bars.enlarged && rest.length ? rest : all);
    box.replaceChildren();
    names.forEach((name, place) => {
      const isCalled = called.has(name);
      const label = element("div", { class: isCalled ? "block called" : "block" }, name.startsWith("tool:") ? shortTool(name) : name);
      if (isCalled) label.append(" ", element("span", { class: "tag", text: "called" }));
      const rows = who.map((one) => {
        const share = trace.shares[one][place];
        const fill = element("div", { class: share < 0 ? `fill against ${one}` : `fill ${one}` });
        fill.style.width = `${Math.min(100, (100 * Math.abs(share)) / scale)}%`;
        const text = Math.abs(share) > scale * 1.0001 ? `\u203a ${percent(share)}` : percent(share);
        return element("div", { class: "bar-row", title: `${one}, ${name}` }, element("div", { class: "track" }, fill), element("span", { text }));
      });
      box.append(label, element("div", { class: "pair" }, ...rows));
    });
    const ends = [percent(0), "share of the attribution (%)", percent(scale)].map((text) => element("span", { text }));
    box.append(element("div"), element("div", { class: "axis-row" }, element("div", { class: "ends" }, ...ends), element("span")));
  };
  draw();
  const larger = element("input", { type: "checkbox", checked: bars.enlarged });
  larger.addEventListener("change", () => {
    bars.enlarged = larger.checked;
    draw();
  });
  const key = element(
    "div",
    { class: "key" },
    ...who.map((one) => element("span", {}, element("span", { class: `swatch ${one}` }), one)),
    element("label", {}, larger, " scaled to the text blocks (\u203a: the bar is cut)"),
  );
  const colours = { student: "#2d62b3", teacher: "#c9700f" };
  const series = () => who.map((one) => ({ label: one, values: trace.shares[one], colour: colours[one] }));
  const rows = () => [["block", ...who.map((one) => `${one} [share]`)], ...names.map((name, place) => [name, ...who.map((one) => trace.shares[one][place])])];
  const take = takeAlong("Attribution by block", { csv: () => csvOf(rows()), svg: () => barsSvg("Attribution of the call by block", sharesNote(run), names, series()) });
  return [key, box, element("p", { class: "caption", text: sharesNote(run) }), take];
}

// The one name of the shares, wherever they are shown.
function sharesNote(run) {
  if (!run.shares) return "Block shares; the run does not say by which normalisation.";
  const against = run.shares.signed ? " Pale bars are shares with a minus." : "";
  return `Block shares by ${run.shares.name}: ${run.shares.rule}.${against}`;
}
