"use strict";
const value = cell => {
  const text = cell.innerText.trim(), number = parseFloat(text);
  return text === "–" ? -Infinity : Number.isNaN(number) ? text : number;
};
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[column]), row]);
      rows.sort(([a], [b]) => down * (typeof a === typeof b ? (a > b) - (a < b) : typeof a === "string" ? 1 : -1));
      table.tBodies[0].append(...rows.map(([, row]) => row));
      table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down > 0 ? "ascending" : "descending");
    });
  });
}
for (const picture of document.querySelectorAll("figure > img")) {
  const button = document.createElement("button");
  button.className = "zoom";
  button.type = "button";
  button.title = "Enlarge";
  picture.replaceWith(button);
  button.append(picture);
  button.addEventListener("click", () => {
    const dialog = document.createElement("dialog"), close = document.createElement("button");
    dialog.setAttribute("aria-label", picture.alt);
    close.textContent = "Close";
    dialog.append(close, picture.cloneNode());
    document.body.append(dialog);
    dialog.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  });
}
