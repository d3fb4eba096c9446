// Rollouts side by side: a column each, a row for each thing that they have.

const MOST_SIDES = 48;

function sidesTable(name, traces, rows, open, linkTo) {
  const head = element(
    "tr",
    {},
    element("td"),
    ...traces.map((trace) => element("th", { scope: "col", class: trace === open ? "open" : null }, element("a", { href: linkTo(trace), "aria-current": trace === open ? "true" : null, text: trace.id }))),
  );
  const body = rows.map(([title, cell]) => {
    const cells = traces.map((trace) => {
      const made = cell(trace);
      return element("td", { class: trace === open ? "open" : null }, made === null || made === undefined ? DASH : made);
    });
    return element("tr", {}, element("th", { scope: "row", text: title }), ...cells);
  });
  const table = element("table", { class: "sides" }, element("thead", {}, head), element("tbody", {}, ...body));
  return [element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table), takeTable(table, name)];
}

const oneOf = (trace, name) => trace.scores.find((score) => score.name === name);

function answerOf(trace) {
  const found = trace.scores.find((score) => score.answer !== null && score.answer !== undefined);
  return found ? found.answer : null;
}

// The rows that both views have: what came of the rollout, its turns and its pictures.
function commonRows(traces, data, addresses) {
  const most = Math.max(...traces.map((trace) => trace.turns.length));
  const rows = [
    ["outcome", outcomeTag],
    ["status", (trace) => (trace.misused ? "edited, misuse" : STATUS_TEXT[trace.status] || trace.status)],
    ["tools", (trace) => calledTools(trace) || null],
  ];
  if (traces.some((trace) => answerOf(trace) !== null)) rows.push(["extracted answer", answerOf]);
  const later = [];
  for (let place = 0; place < most; place++) {
    later.push([`turn ${place + 1}`, (trace) => trace.turns[place] && turnText(trace.turns[place], `Turn ${place + 1} of ${trace.id}`)]);
    if (traces.some((trace) => trace.turns[place] && addresses[trace.turns[place].edited])) {
      later.push([`picture after turn ${place + 1}`, (trace) => trace.turns[place] && addresses[trace.turns[place].edited] && picture(addresses[trace.turns[place].edited], `The edited picture of ${trace.id}`, "")]);
    }
  }
  return [rows, later];
}

function signedCell(value, digits = 3) {
  return value === null || value === undefined ? null : number(value, digits, true);
}

function plainCell(value, digits = 3) {
  return value === null || value === undefined ? null : number(value, digits);
}

// The rollouts of one prompt in one step, with what they were given and what they count for.
function showGroup(trace, data, addresses, links) {
  if (trace.group === undefined) return [element("p", { class: "muted", text: "Held-out rollouts are in no group: advantages are made in training alone." })];
  const traces = data.traces.filter((one) => one.group === trace.group);
  const group = data.groups[trace.group];
  const run = data.runs[trace.run];
  const names = [...new Set(traces.flatMap((one) => one.scores.map((score) => score.name)))];
  const weightOf = (name) => traces.map((one) => (oneOf(one, name) || {}).weight).find((weight) => weight !== null && weight !== undefined);
  const [first, later] = commonRows(traces, data, addresses);
  const rows = [
    ...first,
    ...names.map((name) => [weightOf(name) === undefined ? name : `${name} (weight ${number(weightOf(name), 3)})`, (one) => plainCell((oneOf(one, name) || {}).value)]),
    ["reward", (one) => plainCell(one.reward)],
    ...names.filter((name) => traces.some((one) => oneOf(one, name) && oneOf(one, name).part !== null && oneOf(one, name).part !== undefined)).map((name) => [`advantage from ${name}`, (one) => signedCell((oneOf(one, name) || {}).part)]),
    ["advantage", (one) => signedCell(one.advantage)],
    ...later,
  ];
  const kept = group.asked ? `${traces.length} of ${group.asked} rollouts of this prompt in step ${trace.step}` : `${traces.length} rollouts of this prompt in step ${trace.step}`;
  const numbers = [`mean reward ${number(group.mean, 3)}`, group.deviation === null ? null : `deviation ${number(group.deviation, 3)}`].filter(Boolean).join(", ");
  const scope = run.scope === "rollout" ? "It counts in all tokens that the model wrote." : `With penalty_scope: ${run.scope} the teacher\u2019s components count in those tokens alone, the others in all that the model wrote.`;
  const how = "The advantage is the reward less the group\u2019s mean, over the deviation plus 0.0001 where the run scales it; the parts of its components sum to it.";
  return [
    element("p", { class: "about", text: `${kept}; ${numbers}.` }),
    ...sidesTable("Group", traces, rows, trace, links.linkTo),
    element("p", { class: "caption", text: group.missing || `${how} ${scope}` }),
  ];
}

function sampleKey(sample) {
  return JSON.stringify([sample.source, sample.id, sample.question, sample.answers]);
}

const WHEN_ORDER = (trace) => (trace.part === "held-out" && trace.step === null ? Infinity : trace.step);

// The same sample in all runs: before and after training, method beside method.
function showSame(trace, data, addresses, links) {
  const key = sampleKey(data.samples[trace.sample]);
  const wanted = new Set(data.samples.map((sample, place) => [sample, place]).filter(([sample]) => sampleKey(sample) === key).map(([, place]) => place));
  const all = data.traces.filter((one) => wanted.has(one.sample)).sort((one, other) => one.run - other.run || WHEN_ORDER(one) - WHEN_ORDER(other) || (one.repeat || 0) - (other.repeat || 0));
  const traces = all.slice(0, MOST_SIDES);
  if (!traces.includes(trace)) traces[traces.length - 1] = trace;
  const [first, later] = commonRows(traces, data, addresses);
  const blocks = [...new Set(traces.flatMap((one) => (one.shares ? data.blocks[one.blocks] : [])))];
  const shareOf = (one, name) => {
    const place = one.shares && one.shares.student ? data.blocks[one.blocks].indexOf(name) : -1;
    return place < 0 ? null : percent(one.shares.student[place]);
  };
  const rows = [
    ["run", (one) => data.runs[one.run].name],
    ["method", (one) => data.runs[one.run].method],
    ["when", (one) => whenText(one)],
    ...first,
    ["divergence (nats)", (one) => plainCell(one.divergence)],
    ...later,
    ...blocks.map((name) => [`share of ${name.startsWith("tool:") ? shortTool(name) : name}`, (one) => shareOf(one, name)]),
  ];
  const rightOf = (one) => (one.outcome === 1 ? "right" : one.outcome === 0 ? "wrong" : DASH);
  const changes = data.runs.flatMap((run, place) => {
    const held = all.filter((one) => one.run === place && one.part === "held-out" && one.step !== null);
    const [before, after] = [held.find((one) => one.step === 0), held.filter((one) => one.step > 0).pop()];
    return before && after ? [`${run.name}: ${rightOf(before)} before, ${rightOf(after)} after`] : [];
  });
  const absent = data.runs.filter((_, place) => !all.some((one) => one.run === place)).map((run) => run.name);
  const rules = [...new Set(traces.filter((one) => one.shares).map((one) => sharesNote(data.runs[one.run])))];
  const notes = [
    changes.length ? `${changes.join("; ")}.` : null,
    absent.length ? `Not kept by ${absent.slice(0, 8).join(", ")}${absent.length > 8 ? ` and ${absent.length - 8} more` : ""}.` : null,
    all.length > traces.length ? `${traces.length} of its ${all.length} rollouts are shown.` : null,
  ];
  return [
    ...notes.filter(Boolean).map((text) => element("p", { class: "about", text })),
    ...sidesTable("Same sample", traces, rows, trace, links.linkTo),
    rules.length ? element("p", { class: "caption", text: `Shares are the student\u2019s. ${rules.join(" ")}` }) : null,
  ];
}
