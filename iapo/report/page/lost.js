// An address that leads nowhere is said in one sentence, with a way back.

function showLost(sentence) {
  const box = document.getElementById("lost");
  document.getElementById("lost-text").textContent = sentence;
  box.hidden = false;
  box.scrollIntoView({ behavior: "instant", block: "center" });
}

function hideLost() {
  document.getElementById("lost").hidden = true;
}

// What an address asks for in quotes; a text of any length and kind.
function quoted(text) {
  return `\u201c${cutText(text, 60)}\u201d`;
}

// Sections have addresses, too; those of traces and filters are the browser's to check.
function startPlaces(browsing) {
  const check = () => {
    const name = location.hash.slice(1);
    if (!name || name.includes("=")) {
      if (name && !browsing) showLost("This page has no traces, so that the address leads to none.");
      return;
    }
    let known = name;
    try {
      known = decodeURIComponent(name);
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
    }
    if (document.getElementById(known)) hideLost();
    else showLost(`This page has no part ${quoted(known)}.`);
  };
  document.getElementById("lost-back").addEventListener("click", (event) => {
    event.preventDefault();
    hideLost();
    history.replaceState(null, "", browsing ? "#traces" : "#main");
    if (browsing) browsing.clear();
    document.getElementById(browsing ? "traces" : "main").scrollIntoView({ behavior: "instant" });
  });
  addEventListener("hashchange", check);
  check();
}
