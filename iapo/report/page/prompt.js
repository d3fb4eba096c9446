// The prompt as the model saw it, block by block, tinted by the blocks' shares in the attribution of its call.

const tint = { who: "student" };
const MOST_TINT = 0.34;
let repaintPrompt = null;

const BLOCK_TYPES = { context: "instructions", image: "image", tool: "tool definition", query: "question" };

function blockText(block, trace, data) {
  if (block.type === "query") return data.texts[trace.query];
  if (block.text !== null) return block.text;
  return block.type === "tool" ? "The run folder does not keep the definition of this tool." : "";
}

function showPrompt(trace, data, addresses) {
  repaintPrompt = null;
  if (trace.prompt === undefined) return [element("p", { class: "muted", text: "The run folder does not hold what this prompt was made of: its template, or the picture\u2019s size." })];
  const { blocks, assumed } = data.prompts[trace.prompt];
  const run = data.runs[trace.run];
  const sample = data.samples[trace.sample];
  const pictures = [sample.picture, ...sample.more];
  const names = trace.shares ? data.blocks[trace.blocks] : [];
  const who = trace.shares ? ["student", "teacher"].filter((one) => trace.shares[one]) : [];
  const current = () => (who.includes(tint.who) ? tint.who : who[0]);
  const shareOf = (name) => (tint.who === "none" || !names.includes(name) ? null : trace.shares[current()][names.indexOf(name)]);
  const called = new Set(callsOf(trace).map((call) => `tool:${call.name}`));
  const made = blocks.map((block) => {
    const share = element("span", { class: "share" });
    const head = element("div", { class: "head" }, element("span", {}, `${BLOCK_TYPES[block.type] || block.type} \u00b7 ${block.name}`, called.has(block.name) ? element("span", { class: "tag", text: "called" }) : null), share);
    const body = block.type === "image" ? picture(addresses[pictures[Number(block.name.replace("image_", "")) - 1]], "The picture of the question", "The picture is not in the run folder.") : element("pre", { text: blockText(block, trace, data) });
    return { block, share, box: element("li", { class: "prompt-block" }, head, body) };
  });
  const scaleEnd = element("span");
  const ramp = element("span", { class: "ramp" });
  const colour = (alpha) => {
    const hex = css(`--${current()}`).replace("#", "");
    const [red, green, blue] = [0, 2, 4].map((from) => parseInt(hex.slice(from, from + 2), 16));
    return `rgba(${red}, ${green}, ${blue}, ${alpha.toFixed(3)})`;
  };
  const paint = () => {
    const texts = made.filter(({ block }) => block.type !== "image").map(({ block }) => Math.abs(shareOf(block.name) || 0));
    const most = Math.max(1e-9, ...texts);
    for (const { block, share, box } of made) {
      const value = shareOf(block.name);
      share.textContent = value === null ? (tint.who === "none" || !who.length ? "" : "not compared") : percent(value, 1);
      box.style.backgroundColor = value === null ? "" : colour(MOST_TINT * Math.min(1, Math.abs(value) / most));
    }
    if (!who.length) return;
    scaleEnd.textContent = `${percent(most)} and more`;
    ramp.style.background = tint.who === "none" ? "none" : `linear-gradient(90deg, ${colour(0)}, ${colour(MOST_TINT)})`;
  };
  repaintPrompt = paint;
  paint();
  const radio = (one) => {
    const input = element("input", { type: "radio", name: "tint", value: one, checked: one === (tint.who === "none" ? "none" : current()) });
    input.addEventListener("change", () => {
      tint.who = one;
      paint();
    });
    return element("label", {}, input, one);
  };
  const legend = who.length
    ? element("div", { class: "heat" }, element("fieldset", {}, element("legend", { text: "Tint by the share of" }), ...who.map(radio), radio("none")), element("div", { class: "scale" }, element("span", { text: percent(0) }), ramp, scaleEnd), element("p", { class: "caption", text: `${sharesNote(run)} The scale ends at the largest text block.` }))
    : element("p", { class: "muted", text: "This rollout has no attribution, so that its blocks have no tint." });
  const roles = [["System message", made.filter(({ block }, place) => place === 0 && block.type === "context")]];
  roles.push(["User message", made.filter((one) => !roles[0][1].includes(one))]);
  return [
    element("p", { class: "caption", text: "Laid out again from the template in the run\u2019s manifest and the sample; the model\u2019s chat template puts its role marks around these blocks." }),
    assumed ? element("p", { class: "caption", text: "The run does not say which tools it offered; these are the standard ones." }) : null,
    legend,
    ...roles.filter(([, some]) => some.length).flatMap(([role, some]) => [element("h4", { text: role }), element("ol", { class: "prompt" }, ...some.map(({ box }) => box))]),
  ];
}

document.addEventListener("themechange", () => repaintPrompt && repaintPrompt());
