// What all parts use: data, elements, numbers, the theme. Text from a run becomes text nodes and nothing else.

const MINUS = "\u2212";
const DASH = "\u2013";

function readData(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

// An element; `class`, `text` and properties such as `onclick` by name, other keys are attributes.
function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function number(value, digits, sign) {
  if (value === null || value === undefined) return DASH;
  const text = value.toFixed(digits);
  if (Number(text) === 0) return text.replace("-", "");
  return (sign && value > 0 ? "+" : "") + text.replace("-", MINUS);
}

function percent(value, digits = 1, sign = false) {
  return value === null || value === undefined ? DASH : `${number(100 * value, digits, sign)}\u2009%`;
}

function inUnit(value, unit) {
  return unit === "share" ? percent(value) : number(value, 3);
}

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const THEMES = ["automatic", "light", "dark"];

function startTheme() {
  const button = document.getElementById("theme");
  const apply = (theme) => {
    if (theme === "automatic") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.dataset.value = theme;
    document.dispatchEvent(new Event("themechange"));
  };
  // Pages from disk may be refused a store; the switch works all the same.
  let kept = "automatic";
  try {
    kept = localStorage.getItem("iapo-report-theme") || kept;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
  apply(THEMES.includes(kept) ? kept : "automatic");
  button.hidden = false;
  button.addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(button.dataset.value) + 1) % THEMES.length];
    apply(next);
    try {
      localStorage.setItem("iapo-report-theme", next);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
}
