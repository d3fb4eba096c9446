"use strict";

const find = (name) => document.getElementById(name);
const server = { model: "", body: Infinity };
// What stops the answer that is under way; null where there is none.
let running = null;

function say(name, text) {
  const element = find(name);
  element.textContent = text;
  element.hidden = !text;
  // With many images it may lie below what is seen.
  if (text && name === "error") element.scrollIntoView({ block: "nearest" });
}

// What the model writes and what it is shown, as text and images alone.
function turn(number) {
  const list = find("turns");
  while (list.children.length < number) {
    const item = document.createElement("li");
    item.append(document.createElement("pre"));
    list.append(item);
  }
  return list.children[number - 1];
}

function show(told) {
  if (told.event === "text") {
    turn(told.turn).querySelector("pre").textContent += told.text;
  } else if (told.event === "observation") {
    const text = document.createElement("pre");
    text.textContent = told.text;
    turn(told.turn).append(text);
    if (told.image) {
      const picture = document.createElement("img");
      picture.alt = `the edited image that the model is shown after turn ${told.turn}`;
      picture.src = "data:image/png;base64," + told.image;
      turn(told.turn).append(picture);
    }
  } else if (told.event === "answer") {
    say("note", `Boxes: ${told.boxes}`);
    const cut = told.whole ? "" : " The last turn, or what it was to be shown, did not fit.";
    say("answer", told.answer === null ? `No final answer.${cut}` : told.answer + cut);
  }
}

async function post(body, signal) {
  try {
    return await fetch("/v1/chat/completions", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
  } catch {
    throw new Error("The server cannot be reached; see whether it still runs.");
  }
}

async function reasonOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

function boxesIn(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The boxes are no JSON: ${error.message}.`);
  }
}

async function ask(signal) {
  if (!pictures.files.length) throw new Error("Choose an image first.");
  const extension = {};
  const boxes = find("boxes").value.trim();
  if (boxes) extension.boxes = boxesIn(boxes);
  const addresses = await Promise.all(pictures.files.map(addressOf));
  const content = addresses.map((url) => ({ type: "image_url", image_url: { url } }));
  content.push({ type: "text", text: find("question").value });
  const body = JSON.stringify({ model: server.model, stream: true, iapo: extension, messages: [{ role: "user", content }] });
  // The address of an image takes four bytes for three.
  const size = new Blob([body]).size;
  if (size > server.body) throw new Error(`The request has ${(size / 2 ** 20).toFixed(1)} MiB, and the server takes ${(server.body / 2 ** 20).toFixed(1)}; choose fewer or smaller images.`);
  const response = await post(body, signal);
  if (!response.ok) throw new Error(await reasonOf(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      if (found.iapo) show(found.iapo);
    }
  }
  throw new Error("The answer broke off; see whether the server still runs.");
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  // The button keeps the keyboard's focus, which a disabled one would lose.
  if (running) return;
  running = new AbortController();
  const { signal } = running;
  find("ask").setAttribute("aria-disabled", "true");
  find("stop").hidden = false;
  for (const name of ["error", "note", "answer"]) say(name, "");
  find("turns").replaceChildren();
  say("state", "The model is asked \u2026");
  try {
    await ask(signal);
  } catch (error) {
    if (!signal.aborted) say("error", error.message);
  } finally {
    running = null;
    find("ask").removeAttribute("aria-disabled");
    if (document.activeElement === find("stop")) find("ask").focus();
    find("stop").hidden = true;
    say("state", signal.aborted ? "Stopped." : "");
  }
});
// The server sees with the next word that nobody listens, and the model is free again.
find("stop").addEventListener("click", () => running && running.abort());
find("file").addEventListener("change", (event) => {
  say("error", takePictures(event.target.files));
  // So that the same file can be chosen again.
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) say("error", takePictures(event.clipboardData.files));
});
// Anywhere on the page: a file that is dropped beside the field would take the browser away from it.
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragover");
    if (name === "drop") say("error", takePictures(event.dataTransfer.files));
  });
}
fetch("/health")
  .then((found) => found.json())
  .then((found) => {
    server.model = found.model;
    server.body = found.max_body;
    pictures.most = found.max_images;
    find("model").textContent = found.model;
    find("most").textContent = found.max_images;
  })
  .catch(() => say("error", "The server cannot be reached; load the page again when it runs."));
