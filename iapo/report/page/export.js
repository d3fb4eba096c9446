// Tables and figures to take along, made here of what the page shows: CSV and LaTeX, SVG and PNG.

function plainText(text) {
  return text.replaceAll(MINUS, "-").replace(/[\u2009\s]+/g, " ").trim();
}

// A table's rows as texts; a cell with an interval is its value, and the interval's ends in two columns of their own.
function rowsOf(table) {
  const rows = [...table.rows].map((row) => [...row.cells].flatMap((cell) => Array.from({ length: cell.colSpan }, () => cell)));
  const wide = Math.max(0, ...rows.map((row) => row.length));
  const spread = Array.from({ length: wide }, (_, place) => rows.some((row) => row[place] && row[place].querySelector(".interval")));
  return rows.map((row) =>
    spread.flatMap((split, place) => {
      const cell = row[place];
      if (!cell) return split ? ["", "", ""] : [""];
      const text = plainText(cell.textContent);
      if (!split) return [text];
      if (cell.tagName === "TH") return [text, `${text} low`, `${text} high`];
      const value = cell.querySelector(".value");
      const interval = cell.querySelector(".interval");
      const ends = interval ? plainText(interval.textContent).replace(/[[\]*]/g, "").split(", ") : ["", ""];
      return [value ? plainText(value.textContent) : text, ends[0] || "", ends[1] || ""];
    }),
  );
}

function csvOf(rows) {
  const cell = (value) => {
    let text = String(value ?? "");
    if (text === DASH) text = "";
    // A spreadsheet would take what a model wrote for a formula.
    if (/^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.]+(e[+-]?\d+)?( ?%)?$/i.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

const LATEX = { "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", _: "\\_", "%": "\\%", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "\u2212": "$-$", "\u2013": "--", "\u03bb": "$\\lambda$", "\u2016": "$\\|$", "\u2009": "\\,", "\u00d7": "$\\times$" };

function latexText(text) {
  return text.replace(/[\\{}$&#_%~^<>|\u2212\u2013\u03bb\u2016\u2009\u00d7]/g, (character) => LATEX[character]).replace(/\s+/g, " ").trim();
}

// A tabular with the lines of booktabs; cells stand as the page shows them, an interval behind its value.
function latexOf(table) {
  const line = (row) => [...row.cells].map((cell) => (cell.colSpan > 1 ? `\\multicolumn{${cell.colSpan}}{l}{${latexText(cell.textContent)}}` : latexText(cell.textContent))).join(" & ") + " \\\\";
  const width = Math.max(1, ...[...table.rows].map((row) => [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0)));
  const head = table.tHead ? [...table.tHead.rows].map(line) : [];
  const body = [...table.tBodies].flatMap((part) => [...part.rows].map(line));
  return ["% needs \\usepackage{booktabs}", `\\begin{tabular}{l${"r".repeat(width - 1)}}`, "\\toprule", ...head, ...(head.length ? ["\\midrule"] : []), ...body, "\\bottomrule", "\\end{tabular}", ""].join("\n");
}

function save(name, kind, content) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type: kind }));
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    if (!(error instanceof DOMException || error instanceof TypeError)) throw error;
  }
  // A page from disk may have no clipboard of its own.
  const box = element("textarea", { "aria-hidden": "true", class: "copied" });
  box.value = text;
  document.body.append(box);
  box.select();
  const done = document.execCommand("copy");
  box.remove();
  return done;
}

function fileName(name, ending) {
  return `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "iapo"}.${ending}`;
}

// The buttons below a table or figure. `makes` are functions by format: csv and latex give texts, svg an element.
function takeAlong(name, makes) {
  const said = element("span", { class: "muted", role: "status" });
  const button = (text, act) => element("button", { type: "button", class: "quiet", onclick: act, "aria-label": `${text}: ${name}` }, text);
  const tell = (text) => (said.textContent = text);
  const texts = { csv: ["CSV", "text/csv"], latex: ["LaTeX", "text/x-tex", "tex"] };
  const buttons = Object.entries(texts).flatMap(([format, [title, kind, ending]]) => {
    if (!makes[format]) return [];
    const file = fileName(name, ending || format);
    return [
      button(`Copy ${title}`, async () => tell((await copy(makes[format]())) ? `${title} is copied.` : "The browser does not let the page copy; save it instead.")),
      button(`Save ${title}`, () => {
        save(file, kind, makes[format]());
        tell(`${file} is saved.`);
      }),
    ];
  });
  if (makes.svg) {
    buttons.push(
      button("Save SVG", () => {
        save(fileName(name, "svg"), "image/svg+xml", svgText(makes.svg()));
        tell(`${fileName(name, "svg")} is saved.`);
      }),
      button("Save PNG", async () => {
        save(fileName(name, "png"), "image/png", await svgToPng(makes.svg()));
        tell(`${fileName(name, "png")} is saved.`);
      }),
    );
  }
  return element("details", { class: "take" }, element("summary", { text: "Copy or save" }), element("div", { class: "takes", role: "group", "aria-label": `Copy or save: ${name}` }, ...buttons, said));
}

function takeTable(table, name) {
  return takeAlong(name, { csv: () => csvOf(rowsOf(table)), latex: () => latexOf(table) });
}

// The tables that stand in the page from the start say their name in `data-take`.
function startTables() {
  for (const table of document.querySelectorAll("table[data-take]")) {
    const place = table.closest(".scroll") || table;
    place.after(takeTable(table, table.dataset.take));
  }
}
