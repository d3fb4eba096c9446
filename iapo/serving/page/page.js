"use strict";

const find = (name) => document.getElementById(name);
let image = null;

function say(name, text) {
  const element = find(name);
  element.textContent = text;
  element.hidden = !text;
}

function take(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => {
    image = String(reader.result);
    find("shown").src = image;
    find("shown").hidden = false;
  };
  reader.readAsDataURL(file);
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
      picture.alt = "the edited image that the model is shown";
      picture.src = "data:image/png;base64," + told.image;
      turn(told.turn).append(picture);
    }
  } else if (told.event === "answer") {
    say("answer", told.answer === null ? "(no final answer)" : told.answer);
  }
}

async function ask() {
  say("error", "");
  say("answer", "");
  find("turns").replaceChildren();
  if (!image) throw new Error("Choose an image first.");
  const extension = {};
  const boxes = find("boxes").value.trim();
  if (boxes) extension.boxes = JSON.parse(boxes);
  const content = [
    { type: "image_url", image_url: { url: image } },
    { type: "text", text: find("question").value },
  ];
  const body = { model: find("model").textContent, stream: true, iapo: extension, messages: [{ role: "user", content }] };
  const headers = { "Content-Type": "application/json" };
  const response = await fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
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
  throw new Error("The answer broke off.");
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  find("ask").disabled = true;
  try {
    await ask();
  } catch (error) {
    say("error", error.message);
  } finally {
    find("ask").disabled = false;
  }
});
find("file").addEventListener("change", (event) => take(event.target.files[0]));
const drop = find("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
fetch("/v1/models").then((found) => found.json()).then((found) => {
  find("model").textContent = found.data[0].id;
});
