// Sorting and filtering of the table of cases. What is chosen stands in the fragment of the address.
"use strict";
const STEP = 100;
const form = document.getElementById("filters");
const body = document.querySelector("#cases tbody");
const heads = [...document.querySelectorAll("#cases thead th")];
const count = document.getElementById("count");
const more = document.getElementById("more");
const rows = [...body.rows].map((element, order) => ({
  element,
  order,
  of: element.dataset.of,
  text: element.textContent.toLowerCase(),
  keys: [...element.cells].map((cell) => (cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v))),
}));
const RATIO = 5;
const THREADS = 2;
let sort = { column: RATIO, down: false }; // the worst first
let room = STEP;

function chosen() {
  const { of, threads, side, text } = Object.fromEntries(new FormData(form));
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) =>
    (!of || row.of === of) &&
    (!threads || row.keys[THREADS] === Number(threads)) &&
    (!side || (row.keys[RATIO] < 1) === (side === "slower")) &&
    words.every((word) => row.text.includes(word)));
}

function compare(a, b) {
  const [x, y] = [a.keys[sort.column], b.keys[sort.column]];
  return typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
}

function show() {
  const found = chosen();
  const sign = sort.down ? -1 : 1;
  found.sort((a, b) => sign * compare(a, b) || a.order - b.order);
  body.replaceChildren(...found.slice(0, room).map((row) => row.element));
  const slower = found.filter((row) => row.keys[RATIO] < 1).length;
  count.textContent = `${found.length} of ${rows.length} cases, ${slower} with the peer faster` +
    (found.length > room ? `; the first ${room} are shown` : "");
  more.hidden = found.length <= room;
  more.textContent = `Show ${Math.min(STEP * 5, found.length - room)} more`;
  heads.forEach((head, column) => {
    if (column === sort.column) head.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

function remember() {
  const kept = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  if (sort.column !== RATIO || sort.down) kept.set("sort", (sort.down ? "-" : "") + sort.column);
  history.replaceState(null, "", `#${kept}`);
}

function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const name of ["of", "threads", "side", "text"]) {
    const control = form.elements[name];
    control.value = kept.get(name) ?? "";
    if (control.selectedIndex === -1) control.selectedIndex = 0;
  }
  const wanted = kept.get("sort");
  const column = wanted === null ? NaN : Math.abs(Number(wanted));
  sort = heads[column]?.querySelector("button") ? { column, down: wanted.startsWith("-") } : { column: RATIO, down: false };
  room = STEP;
  show();
}

function changed() {
  room = STEP;
  show();
  remember();
}

heads.forEach((head, column) => {
  head.querySelector("button")?.addEventListener("click", () => {
    sort = { column, down: sort.column === column && !sort.down };
    changed();
  });
});
form.addEventListener("input", changed);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => { sort = { column: RATIO, down: false }; setTimeout(changed); });
more.addEventListener("click", () => {
  const next = room;
  room += STEP * 5;
  show();
  const cell = body.rows[next]?.cells[0];
  if (cell) {
    cell.tabIndex = -1;
    cell.focus();
  }
});
addEventListener("hashchange", recall);
form.hidden = false;
recall();
