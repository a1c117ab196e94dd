"""The HTML of the demo page, which loads nothing from other servers."""

from __future__ import annotations

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Mask R-CNN demo: research use only</title>
<style nonce="%(nonce)s">
  * { box-sizing: border-box }
  body { margin: 0 auto; max-width: 72rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #1b1f24;
         background: #fff }
  h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem }
  header p { margin: .25rem 0 1rem; font-weight: 600; color: #8a2b00 }
  #drop { padding: 1.2rem; border: 2px dashed #59636e; border-radius: .5rem; text-align: center; font-weight: 400 }
  #drop.over { background: #ddf0ff; border-color: #0057b0 }
  input[type=file] { display: block; margin: .6rem auto 0; width: max-content; max-width: 100%%; font: inherit }
  :focus-visible { outline: 3px solid #0057b0; outline-offset: 2px }
  #status { min-height: 1.5rem; margin: .75rem 0 } #status.wrong { color: #a40e26; font-weight: 600 }
  #result { display: grid; gap: 0 1.5rem; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr) }
  #result[hidden] { display: none }
  #result > * { min-width: 0 }
  #findings { grid-column: 1 / -1 }
  img { display: block; width: 100%%; max-height: 80vh; object-fit: contain }
  figure { align-self: start; margin: 0 0 1rem; background: #181818 }
  label { display: block } label, output { font-weight: 600 }
  input[type=range] { width: 100%%; height: 2rem; accent-color: #0057b0 }
  .table { overflow-x: auto }
  table { border-collapse: collapse; width: 100%%; font-size: .9rem; font-variant-numeric: tabular-nums }
  th, td { padding: .3rem .6rem .3rem 0; text-align: left; border-bottom: 1px solid #d1d9e0; white-space: nowrap }
  @media (max-width: 44rem) { #result { grid-template-columns: minmax(0, 1fr) } }
</style>
</head>
<body>
<header>
  <h1>Mask R-CNN demo</h1>
  <p>Research use only: not a medical device.</p>
</header>
<main>
  <label id="drop" for="file">Drop an image here, or choose one: PNG, JPEG, TIFF, BMP or DICOM
    <input type="file" id="file" accept=".png,.jpg,.jpeg,.tif,.tiff,.bmp,.dcm,.dicom,.ima,image/*,application/dicom" />
  </label>
  <p id="status" role="status">The server stores only the last four images, in memory.</p>
  <div id="result" hidden>
    <figure><img id="overlay" alt=""></figure>
    <section aria-labelledby="seen">
      <label for="confidence">Confidence, at least <output id="least" for="confidence"></output></label>
      <input type="range" id="confidence" min="0" max="1" step="any" value="%(confidence)s" />
      <h2 id="seen">Instances</h2>
      <div class="table" id="instances" tabindex="0" role="region" aria-labelledby="seen"></div>
    </section>
    <section id="findings" aria-labelledby="read">
      <h2 id="read">Findings</h2>
      <div class="table" id="rows" tabindex="0" role="region" aria-labelledby="read"></div>
    </section>
  </div>
</main>
<script nonce="%(nonce)s">
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
</script>
</body>
</html>
"""


def page(confidence: float, nonce: str) -> str:
    """Return the page with its slider at `confidence`; `nonce` allows its script and style."""
    return PAGE % {"confidence": f"{confidence:.6g}", "nonce": nonce}
