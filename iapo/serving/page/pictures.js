"use strict";

// The images that are asked about: chosen, dropped or pasted, in order.
const pictures = { most: 1, files: [] };

// Takes what it can of some files, and returns a sentence about what it cannot; "" where there is none.
function takePictures(files) {
  const problems = [];
  for (const file of files) {
    // What has no type may be an image of a rare one: the server says whether it is.
    if (file.type && !file.type.startsWith("image/")) problems.push(`${file.name} is no image.`);
    else if (!file.size) problems.push(`${file.name} is empty.`);
    else if (pictures.files.length === pictures.most) problems.push(`${file.name} is left out: a question is about ${pictures.most} images at most.`);
    else pictures.files.push(file);
  }
  showPictures();
  return problems.join(" ");
}

function showPictures() {
  const list = document.getElementById("pictures");
  for (const one of list.querySelectorAll("img")) URL.revokeObjectURL(one.src);
  list.replaceChildren(...pictures.files.map(thumbnail));
}

function thumbnail(file, place) {
  const name = `image_${place + 1}`;
  const item = document.createElement("li");
  const shown = document.createElement("img");
  shown.alt = `${name}, ${file.name}`;
  // Dragged, it would be dropped here as one more.
  shown.draggable = false;
  shown.src = URL.createObjectURL(file);
  const label = document.createElement("span");
  label.textContent = `${name}: ${file.name}`;
  item.append(shown, label, button("Remove", `Remove ${name}, ${file.name}`, () => {
    pictures.files.splice(place, 1);
    showPictures();
    // Else the keyboard would start anew at the top of the page.
    focusOn(Math.min(place, pictures.files.length - 1), "Remove");
  }));
  if (place) {
    item.append(button("Earlier", `Move ${name}, ${file.name}, before image_${place}`, () => {
      pictures.files.splice(place - 1, 0, ...pictures.files.splice(place, 1));
      showPictures();
      focusOn(place - 1, place > 1 ? "Earlier" : "Remove");
    }));
  }
  return item;
}

function button(text, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

function focusOn(place, text) {
  const item = document.querySelectorAll("#pictures li")[place];
  const found = item && [...item.querySelectorAll("button")].find((one) => one.textContent === text);
  (found || document.getElementById("file")).focus();
}

function addressOf(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read; it may have changed, so remove it and choose it again.`));
    reader.readAsDataURL(file);
  });
}
