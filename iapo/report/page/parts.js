// What one trace says of itself: tags, pictures, turns, answers, scores.

const STATUS_TEXT = { edited: "edited", no_call: "no call", refused: "refused", failed: "failed" };

function callsOf(trace) {
  return trace.turns.flatMap((turn) => turn.calls || []);
}

function calledTools(trace) {
  return [...new Set(callsOf(trace).map((call) => shortTool(call.name)))].join(", ");
}

function errorsOf(trace) {
  return trace.turns.map((turn) => turn.error).filter(Boolean);
}

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
function turnText(turn, label) {
  const characters = Array.from(turn.text);
  const part = (from, to) => characters.slice(from, to).join("");
  const box = element("pre", { class: "turn", tabindex: "0", "aria-label": label });
  if (turn.span) box.append(part(0, turn.span[0]), element("mark", { text: part(...turn.span) }), part(turn.span[1]));
  else box.append(turn.text);
  return box;
}

const WHY_NO_PICTURE = { no_call: "The turn calls no tool.", refused: "The program was refused.", failed: "The program failed." };

// The edited picture of each turn that wrote a program, or was asked for one.
function editedPictures(trace, addresses) {
  const asked = trace.turns.map((turn, place) => [turn, place]).filter(([turn]) => turn.status);
  return asked.map(([turn, place]) => {
    const caption = asked.length > 1 ? `After the program of turn ${place + 1}` : "After the program";
    return figure(caption, picture(addresses[turn.edited], "The edited picture", WHY_NO_PICTURE[turn.status] || (turn.said ? "The program displayed a text and no picture." : "The edited picture is not in the run folder.")));
  });
}

// All turns in order, each with what the model was told then.
function showTurns(trace, data, heading = "h4") {
  const many = trace.turns.length > 1;
  return trace.turns.flatMap((turn, place) => {
    const name = turn.status ? "the tool program" : "the answer";
    const parts = [element(heading, { text: many ? `Turn ${place + 1}: ${name}` : "Turn 1, the only one" }), turnText(turn, `Turn ${place + 1}`)];
    if (turn.error) parts.push(element("p", { class: "error", text: turn.error }));
    if (turn.divergence !== undefined) parts.push(element("p", { class: "muted", text: `Divergence of its call: ${number(turn.divergence, 3)} nats` }));
    if (turn.told !== undefined && turn.told !== null) parts.push(element("p", { class: "told" }, element("span", { class: "muted", text: "The model was then told: " }), data.texts[turn.told]));
    return parts;
  });
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
  const parted = trace.advantage !== null && trace.advantage !== undefined;
  const head = ["component", "value"].concat(weighted.length ? ["weight", "in the reward"] : [], parted ? ["in the advantage"] : [], explained ? ["why"] : []);
  const body = trace.scores.map((score) => {
    const has = weighted.includes(score);
    const cells = [element("th", { scope: "row", text: score.name }), element("td", { class: "right", text: number(score.value, 3) })];
    if (weighted.length) {
      cells.push(element("td", { class: "right", text: has ? number(score.weight, 3) : DASH }));
      cells.push(element("td", { class: "right", text: has ? number(score.weight * score.value, 3) : DASH }));
    }
    if (parted) cells.push(element("td", { class: "right", text: number(score.part, 3, true) }));
    if (explained) cells.push(element("td", { class: "text", text: score.explanation }));
    return element("tr", {}, ...cells);
  });
  if (weighted.length) {
    const total = weighted.reduce((sum, score) => sum + score.weight * score.value, 0);
    const advantage = parted ? element("td", { class: "right", text: number(trace.advantage, 3, true) }) : null;
    const rest = [element("td"), element("td"), element("td", { class: "right", text: number(total, 3) }), advantage, explained ? element("td") : null];
    body.push(element("tr", {}, element("th", { scope: "row", text: "reward" }), ...rest));
  }
  const headings = head.map((text, place) => element("th", { scope: "col", class: place && text !== "why" ? "right" : null, text }));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...headings)), element("tbody", {}, ...body));
  return [element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Reward" }, table), takeTable(table, "Reward")];
}
