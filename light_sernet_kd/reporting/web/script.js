"use strict";
// Without this script the page still has every number, and each recording the browser's own player.

const said = document.getElementById("said");

function valueOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  return text === "–" || text === "" ? null : text;
}

function compared(first, second) {
  if (typeof first === "number" && typeof second === "number") return first - second;
  return String(first).localeCompare(String(second), undefined, { numeric: true });
}

function sort(table, column, head) {
  const falls = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", falls ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  // What has no value stands last, either way.
  rows.sort(([first], [second]) => {
    if (first === null || second === null) return (first === null) - (second === null);
    return falls ? compared(second, first) : compared(first, second);
  });
  body.append(...rows.map(([, row]) => row));
  said.textContent = `Sorted by ${head.textContent}, ${falls ? "descending" : "ascending"}.`;
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, column, head));
  });
}

for (const audio of document.querySelectorAll(".mistakes audio")) {
  const name = audio.getAttribute("aria-label");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "play";
  const show = () => {
    button.classList.toggle("playing", !audio.paused);
    button.setAttribute("aria-label", `${audio.paused ? "Play" : "Stop"} ${name.toLowerCase()}`);
  };
  button.addEventListener("click", () => {
    if (!audio.paused) {
      audio.pause();
      return;
    }
    for (const other of document.querySelectorAll("audio")) other.pause();
    audio.currentTime = 0;
    audio.play();
  });
  for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, show);
  show();
  audio.controls = false;
  audio.after(button);
}

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.getAttribute("aria-labelledby"))?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -80% 0px" },
);
for (const section of document.querySelectorAll("main section")) watcher.observe(section);
