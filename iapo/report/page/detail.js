// One trace in full.

const STATUS_TEXT = { edited: "edited", no_call: "no call", refused: "refused", failed: "failed" };
const bars = { enlarged: true };

function shortTool(name) {
  return name.replace(/^tool:/, "").replace(/^focus_on_/, "").replaceAll("_", " ");
}

function whenText(trace) {
  if (trace.part === "training") return `training, step ${trace.step}`;
  if (trace.step === null) return "held out";
  return trace.step === 0 ? "held out, before training" : `held out, after ${trace.step} steps`;
}

function outcomeTag(trace) {
  if (trace.outcome === null) return null;
  if (trace.outcome === 1) return element("span", { class: "tag good", text: "\u2713 right" });
  if (trace.outcome === 0) return element("span", { class: "tag bad", text: "\u2717 wrong" });
  return element("span", { class: "tag", text: `outcome ${number(trace.outcome, 2)}` });
}

function callTag(trace) {
  if (trace.misused) return element("span", { class: "tag warn", text: "misuse" });
  if (trace.status === "edited") return null;
  return element("span", { class: "tag warn", text: STATUS_TEXT[trace.status] || trace.status });
}

function picture(address, alternative, missing) {
  if (!address) return element("div", { class: "nothing", text: missing });
  const image = element("img", { src: address, alt: alternative, decoding: "async" });
  const frame = element("div", { class: "frame" }, image);
  // Tiny pictures are drawn large, and should not look blurred.
  image.addEventListener("load", () => frame.classList.toggle("small", image.naturalWidth < 300));
  return frame;
}

function figure(caption, ...content) {
  return element("figure", {}, element("figcaption", { text: caption }), ...content);
}

// The span counts characters as Python does, not halves of surrogate pairs.
function turnOne(trace) {
  const characters = Array.from(trace.turn1);
  const part = (from, to) => characters.slice(from, to).join("");
  const box = element("pre", { class: "turn", tabindex: "0", "aria-label": "Turn 1" });
  if (trace.span) box.append(part(0, trace.span[0]), element("mark", { text: part(...trace.span) }), part(trace.span[1]));
  else box.append(trace.turn1);
  return box;
}

function answers(trace, sample) {
  const extracted = trace.scores.find((score) => score.answer !== null && score.answer !== undefined);
  const list = element("dl", { class: "answers" });
  const rows = [["gold", sample.answers.join(" || ")]];
  if (extracted) rows.unshift(["extracted", extracted.answer]);
  for (const [name, value] of rows) list.append(element("dt", { text: name }), element("dd", { text: value }));
  return list;
}

function scoreTable(trace) {
  const weighted = trace.scores.filter((score) => score.weight !== null && score.weight !== undefined);
  const explained = trace.scores.some((score) => score.explanation);
  const head = ["component", "value"].concat(weighted.length ? ["weight", "in the reward"] : [], explained ? ["why"] : []);
  const body = trace.scores.map((score) => {
    const has = weighted.includes(score);
    const cells = [element("th", { scope: "row", text: score.name }), element("td", { class: "right", text: number(score.value, 3) })];
    if (weighted.length) {
      cells.push(element("td", { class: "right", text: has ? number(score.weight, 3) : DASH }));
      cells.push(element("td", { class: "right", text: has ? number(score.weight * score.value, 3) : DASH }));
    }
    if (explained) cells.push(element("td", { class: "text", text: score.explanation }));
    return element("tr", {}, ...cells);
  });
  if (weighted.length) {
    const total = weighted.reduce((sum, score) => sum + score.weight * score.value, 0);
    const rest = [element("td"), element("td"), element("td", { class: "right", text: number(total, 3) }), explained ? element("td") : null];
    body.push(element("tr", {}, element("th", { scope: "row", text: "reward" }), ...rest));
  }
  const headings = head.map((text, place) => element("th", { scope: "col", class: place && text !== "why" ? "right" : null, text }));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...body));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Reward" }, table);
}

function blockBars(trace, names) {
  const called = new Set(trace.calls.map((call) => `tool:${call.name}`));
  const who = ["student", "teacher"].filter((one) => trace.shares[one]);
  const most = (places) => Math.max(1e-9, ...who.flatMap((one) => places.map((place) => trace.shares[one][place])));
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
        const fill = element("div", { class: `fill ${one}` });
        fill.style.width = `${Math.min(100, (100 * share) / scale)}%`;
        const text = share > scale * 1.0001 ? `\u203a ${percent(share)}` : percent(share);
        return element("div", { class: "bar-row", title: `${one}, ${name}` }, element("div", { class: "track" }, fill), element("span", { text }));
      });
      box.append(label, element("div", { class: "pair" }, ...rows));
    });
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
  return [key, box];
}

function showDetail(place, trace, data, addresses, links) {
  const sample = data.samples[trace.sample];
  const run = data.runs[trace.run];
  const original = picture(addresses[sample.picture], "The picture of the question", "The picture is not in the run folder.");
  const left = figure("Picture", original);
  if (trace.shares) {
    const patches = trace.patches || {};
    if (Object.keys(patches).length && addresses[sample.picture]) left.append(makeHeat(original, patches));
    else left.append(element("p", { class: "heat muted", text: "No heat map: this trace keeps no shares of the picture\u2019s tokens." }));
  }
  const why = { no_call: "Turn 1 calls no tool.", refused: "The program was refused.", failed: "The program failed." };
  const edited = picture(addresses[trace.edited], "The edited picture", why[trace.status] || (trace.text ? "The program displayed a text and no picture." : "The edited picture is not in the run folder."));
  const called = [...new Set(trace.calls.map((call) => shortTool(call.name)))].join(", ");
  const axis = sample.axis ? `right tools: ${sample.axis}` : "no right axis";
  place.replaceChildren(
    element(
      "div",
      { class: "bar" },
      element("button", { type: "button", id: "previous", onclick: () => links.step(-1), disabled: !links.hasPrevious }, "Previous"),
      element("button", { type: "button", id: "next", onclick: () => links.step(1), disabled: !links.hasNext }, "Next"),
      element("span", { class: "spacer" }),
      element("a", { href: links.address, id: "permalink", text: "Link to this trace" }),
    ),
    element("h3", { text: sample.question }),
    element("p", { class: "about", text: [run.name, whenText(trace), sample.source, sample.id, axis].filter(Boolean).join(" \u00b7 ") }),
    element(
      "div",
      { class: "tags" },
      outcomeTag(trace),
      trace.misused === false ? element("span", { class: "tag good", text: "right tools" }) : null,
      callTag(trace),
      called ? element("span", { class: "tag", text: called }) : null,
    ),
    element("div", { class: "pictures" }, left, figure("After the program", edited)),
    element("h4", { text: "Turn 1: the tool program" }),
    turnOne(trace),
    ...(trace.error ? [element("p", { class: "error", text: trace.error })] : []),
    ...(trace.text ? [element("h4", { text: "What the tools said" }), element("pre", { class: "turn", text: trace.text })] : []),
    element("h4", { text: trace.turn2 === null ? "Answer" : "Turn 2: the answer" }),
    trace.turn2 === null
      ? element("p", { class: "muted", text: "There was no second turn; turn 1 is graded." })
      : element("pre", { class: "turn", tabindex: "0", "aria-label": "Turn 2", text: trace.turn2 }),
    answers(trace, sample),
    element("h4", { text: "Reward" }),
    scoreTable(trace),
    element("h4", { text: "Attribution of the call, by block of the prompt" }),
    ...(trace.shares ? blockBars(trace, data.blocks[trace.blocks]) : [element("p", { class: "muted", text: "This rollout has no attribution." })]),
  );
}
