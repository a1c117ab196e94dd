const at = id => document.getElementById(id);
const COLUMNS = {class: "class", score: "score", area: "area (px)", box: "box x, y, w, h (px)"};
let image = null, size = [1, 1], timing = "", latest = 0, showing = false, again = false, zoom = 1, marked = null;

function report(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "wrong" : "";
}

async function post(path, body) {
  const response = await fetch(path, {method: "POST", body}), answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

const text = value => value === null ? "–" : typeof value === "boolean" ? (value ? "yes" : "no")
  : typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(4)))
  : Array.isArray(value) ? value.join(", ") : String(value);

function add(parent, name, content = "") {
  const made = document.createElement(name);
  made.textContent = content;
  parent.append(made);
  return made;
}

/* Highlight one instance in the image and in the table; the same number again ends it. */
function mark(number) {
  marked = number;
  for (const each of document.querySelectorAll("[data-number]")) {
    const on = Number(each.dataset.number) === marked;
    if (each.matches("button")) each.setAttribute("aria-pressed", on);
    else each.classList.toggle("on", on);
  }
}
const toggle = number => mark(marked === number ? null : number);

function listInstances(instances) {
  if (!instances.length) { at("instances").textContent = "No instance with this confidence."; return; }
  const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const name of ["number", ...Object.values(COLUMNS)]) add(head, "th", name).scope = "col";
  instances.forEach((each, index) => {
    const row = body.insertRow(), button = add(row.insertCell(), "button", index + 1);
    button.type = "button";
    button.setAttribute("aria-label", `Highlight ${index + 1}, ${each.class}`);
    row.dataset.number = button.dataset.number = index + 1;
    button.addEventListener("click", () => toggle(index + 1));
    for (const name of Object.keys(COLUMNS)) add(row, "td", text(each[name]));
  });
  at("instances").replaceChildren(table);
}

function draw(instances) {
  const overlay = at("overlay"), letters = Math.max(size[0], size[1]) / 36, numbers = [];
  overlay.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  overlay.replaceChildren();
  instances.forEach((each, index) => {
    const path = document.createElementNS(overlay.namespaceURI, "path");
    const number = document.createElementNS(overlay.namespaceURI, "text");
    path.setAttribute("d", each.outlines.map(points => `M${points.join(" ")}Z`).join(""));
    path.setAttribute("class", `c${each.color}`);
    path.dataset.number = index + 1;
    path.addEventListener("click", () => toggle(index + 1));
    number.textContent = index + 1;
    number.setAttribute("font-size", letters);
    number.setAttribute("x", Math.max(each.box[0], 0));
    number.setAttribute("y", Math.max(each.box[1] - letters / 4, letters));
    overlay.append(path);
    numbers.push(number);
  });
  overlay.append(...numbers);
  const told = instances.map((each, index) => `${index + 1} ${each.class} ${each.score}`).join(", ");
  overlay.setAttribute("aria-label", `Outlines of ${instances.length} instance${instances.length === 1 ? "" : "s"}${told && ": "}${told}`);
}

function listFindings(rows) {
  at("rows").replaceChildren();
  at("findings").hidden = !rows.length;
  for (const each of rows) {
    const row = add(at("rows"), "div"), list = add(row, "dl");
    row.className = "row";
    for (const name of Object.keys(each).filter(name => name !== "notice")) {
      const pair = add(list, "div");
      add(pair, "dt", name.replaceAll("_", " "));
      add(pair, "dd", text(each[name]));
    }
  }
}

async function show() {
  again = showing;
  if (showing || !image) return;
  showing = true;
  try {
    const answer = await post("/show", JSON.stringify({image, confidence: Number(at("confidence").value)}));
    listInstances(answer.instances);
    draw(answer.instances);
    listFindings(answer.findings);
    mark(marked);
    at("result").hidden = false;
    fit();
    report(`${size[0]} × ${size[1]} pixels; found: ${answer.instances.length}; ${timing}`);
  } catch (error) {
    report(error.message, true);
  }
  showing = false;
  if (again) show();
}

function warn(lines) {
  at("warnings").hidden = !lines.length;
  at("warnings").replaceChildren();
  if (!lines.length) return;
  add(add(at("warnings"), "p"), "strong", "This image is unlike the training data; do not rely on the result.");
  const list = add(at("warnings"), "ul");
  lines.forEach(line => add(list, "li", line));
}

async function open(file, name = file?.name) {
  if (!file) return;
  const mine = ++latest;
  report(`Predicting ${name} …`);
  try {
    const found = await post("/find", file);
    if (mine !== latest) return;
    image = found.image;
    size = [found.width, found.height];
    zoom = 1;
    marked = null;
    at("picture").src = found.picture;
    at("picture").alt = `The chosen image: ${name}`;
    timing = `reading ${(1000 * found.reading).toFixed(0)} ms, network ${(1000 * found.finding).toFixed(0)} ms`;
    warn(found.warnings);
    await show();
  } catch (error) {
    if (mine !== latest) return;
    image = null;
    at("result").hidden = true;
    warn([]);
    report(`${name}: ${error.message}`, true);
  }
}

/* At 100 % the whole image fits into the view. */
function fit() {
  const whole = Math.min(at("view").clientWidth, 0.8 * innerHeight * size[0] / size[1]);
  at("stage").style.width = `${Math.floor(whole * zoom)}px`;
  at("zoom").textContent = `${Math.round(100 * zoom)} %`;
}

function enlarge(factor) {
  const view = at("view"), x = view.scrollLeft + view.clientWidth / 2, y = view.scrollTop + view.clientHeight / 2;
  const before = zoom;
  zoom = Math.min(Math.max(zoom * factor, 1), 8);
  fit();
  view.scrollLeft = x * zoom / before - view.clientWidth / 2;
  view.scrollTop = y * zoom / before - view.clientHeight / 2;
}

async function save(form) {
  try {
    const body = JSON.stringify({image, confidence: Number(at("confidence").value), form});
    const answer = await post("/save", body), link = document.createElement("a");
    link.href = answer.url;
    link.download = answer.name;
    link.click();
  } catch (error) {
    report(error.message, true);
  }
}

const least = () => { at("least").textContent = Number(at("confidence").value).toFixed(2); };
least();
at("confidence").addEventListener("input", () => { least(); show(); });
at("shown").addEventListener("change", event => { at("overlay").style.visibility = event.target.checked ? "" : "hidden"; });
at("opacity").addEventListener("input", event => { at("overlay").style.opacity = event.target.value; });
at("larger").addEventListener("click", () => enlarge(1.5));
at("smaller").addEventListener("click", () => enlarge(1 / 1.5));
at("view").addEventListener("keydown", event => {
  if (event.key === "+" || event.key === "-") enlarge(event.key === "+" ? 1.5 : 1 / 1.5);
});
document.querySelectorAll("[data-form]").forEach(each => each.addEventListener("click", () => save(each.dataset.form)));
document.querySelectorAll("#examples button").forEach((button, index) => button.addEventListener("click", async () => {
  try {
    const response = await fetch(`/examples/${index + 1}`);
    if (!response.ok) throw new Error((await response.json()).message);
    open(await response.blob(), `example ${index + 1}`);
  } catch (error) {
    report(error.message, true);
  }
}));
addEventListener("resize", () => { if (image) fit(); });
at("file").addEventListener("change", event => open(event.target.files[0]));
addEventListener("dragover", event => { event.preventDefault(); at("drop").classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
addEventListener("drop", event => {
  event.preventDefault();
  at("drop").classList.remove("over");
  open(event.dataTransfer.files[0]);
});
