// The open trace, in one of its views: the rollout, its prompt, its group, the same sample elsewhere.

const VIEWS = { rollout: "Rollout", prompt: "Prompt", group: "Group", sample: "Same sample" };

function showRollout(trace, data, addresses) {
  const sample = data.samples[trace.sample];
  const run = data.runs[trace.run];
  const original = picture(addresses[sample.picture], "The picture of the question", "The picture is not in the run folder.");
  const left = figure(sample.more.length ? "Picture 1" : "Picture", original);
  const more = sample.more.map((place, index) => picture(addresses[place], `Picture ${index + 2} of the question`, "The picture is not in the run folder."));
  const further = more.map((one, index) => figure(`Picture ${index + 2}`, one));
  if (trace.shares) {
    const patches = trace.patches || {};
    const shown = [original, ...more];
    if (Object.keys(patches).length && shown.some((one) => one.querySelector("img"))) left.append(makeHeat(shown, patches));
    else left.append(element("p", { class: "heat muted", text: "No heat map: this trace keeps no shares of the picture\u2019s tokens." }));
  }
  const group = data.groups[trace.group];
  const notes = [];
  if (trace.turns.length === 1) notes.push(trace.cut ? "What the tool gave did not fit into the sequence: the rollout ended here, and training left it out." : "There was no second turn; turn 1 is graded.");
  return [
    element("div", { class: "pictures" }, left, ...further, ...editedPictures(trace, addresses)),
    ...showTurns(trace, data),
    ...notes.map((text) => element("p", { class: "muted", text })),
    answers(trace, sample),
    element("h4", { text: "Reward" }),
    ...scoreTable(trace),
    group && group.missing ? element("p", { class: "caption", text: group.missing }) : null,
    element("h4", { text: "Attribution of the call, by block of the prompt" }),
    ...(trace.shares ? blockBars(trace, data.blocks[trace.blocks], run) : [element("p", { class: "muted", text: "This rollout has no attribution." })]),
  ];
}

const SHOWS = { rollout: showRollout, prompt: showPrompt, group: showGroup, sample: showSame };

// The tabs above a view. Left and right go from one to the next, as tabs do.
function viewTabs(view, choose) {
  const names = Object.keys(VIEWS);
  const tabs = names.map((name) =>
    element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-selected": String(name === view), "aria-controls": "view", tabindex: name === view ? "0" : "-1", onclick: () => choose(name) }, VIEWS[name]),
  );
  const bar = element("div", { class: "tabs", role: "tablist", "aria-label": "Views of the trace" }, ...tabs);
  bar.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(names[(names.indexOf(view) + by + names.length) % names.length]);
  });
  return bar;
}

function showDetail(place, trace, data, addresses, links) {
  const sample = data.samples[trace.sample];
  const run = data.runs[trace.run];
  const called = calledTools(trace);
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
    viewTabs(links.view, links.choose),
    element("div", { id: "view", role: "tabpanel", "aria-labelledby": `tab-${links.view}` }, ...SHOWS[links.view](trace, data, addresses, links).filter(Boolean)),
  );
}
