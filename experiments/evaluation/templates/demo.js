const at = id => document.getElementById(id);
let image = null, timing = "", latest = 0, showing = false, again = false;

function report(text, wrong = false) {
  at("status").textContent = text;
  at("status").className = wrong ? "wrong" : "";
}

async function post(path, body) {
  const response = await fetch(path, {method: "POST", body}), answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function cell(row, name, value) {
  const made = document.createElement(name);
  if (name === "th") made.scope = "col";
  const number = typeof value === "number" && !Number.isInteger(value);
  made.textContent = value === null ? "–" : number ? String(Number(value.toPrecision(4))) : String(value);
  row.append(made);
}

function fill(place, rows, nothing) {
  if (!rows.length) { place.textContent = nothing; return; }
  const table = document.createElement("table"), names = Object.keys(rows[0]).filter(name => name !== "notice");
  const head = table.createTHead().insertRow(), body = table.createTBody();
  names.forEach(name => cell(head, "th", name.replaceAll("_", " ")));
  for (const each of rows) { const row = body.insertRow(); names.forEach(name => cell(row, "td", each[name])); }
  place.replaceChildren(table);
}

async function show() {
  again = showing;
  if (showing || !image) return;
  showing = true;
  try {
    const confidence = Number(at("confidence").value);
    const answer = await post("/show", JSON.stringify({image, confidence}));
    const seen = answer.instances;
    at("overlay").src = answer.overlay;
    at("overlay").alt = `The image, ${seen.length} found: ` + seen.map(one => `${one.class} ${one.score}`).join(", ");
    fill(at("instances"), seen, "No instance with this confidence.");
    fill(at("rows"), answer.findings, "");
    at("findings").hidden = !answer.findings.length;
    at("result").hidden = false;
    report(`${answer.width} × ${answer.height} pixels; found: ${seen.length}; ${timing}`);
  } catch (error) {
    report(error.message, true);
  }
  showing = false;
  if (again) show();
}

async function open(file) {
  if (!file) return;
  const mine = ++latest;
  report(`Predicting ${file.name} …`);
  try {
    const found = await post("/find", file);
    if (mine !== latest) return;
    image = found.image;
    timing = `reading ${(1000 * found.reading).toFixed(0)} ms, network ${(1000 * found.finding).toFixed(0)} ms`;
    await show();
  } catch (error) {
    if (mine !== latest) return;
    image = null;
    at("result").hidden = true;
    report(`${file.name}: ${error.message}`, true);
  }
}

const least = () => { at("least").textContent = Number(at("confidence").value).toFixed(2); };
least();
at("confidence").addEventListener("input", () => { least(); show(); });
at("file").addEventListener("change", event => open(event.target.files[0]));
addEventListener("dragover", event => { event.preventDefault(); at("drop").classList.add("over"); });
addEventListener("dragleave", event => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
addEventListener("drop", event => {
  event.preventDefault();
  at("drop").classList.remove("over");
  open(event.dataTransfer.files[0]);
});
