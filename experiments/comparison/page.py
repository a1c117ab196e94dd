"""Render the comparison as one HTML page without other files, network access or scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from experiments.comparison.comparison import Comparison, read_differences
from experiments.comparison.figures import Case, data_url, draw_cases, interval_chart, scatter_chart
from experiments.comparison.tables import model_cells, patients_note, score_rows, select_scores, set_title
from experiments.evaluation.tables import LOWER_SCORES, ROWS

_STYLE = """
:root{color-scheme:light dark;--ink:#1c1c1c;--soft:#5c5c5c;--line:#c9c9c9;--ground:#fff;--band:#f3f3f3;--mark:#0072b2}
@media (prefers-color-scheme:dark){:root{--ink:#e8e8e8;--soft:#a8a8a8;--line:#474747;--ground:#161616;--band:#222;
--mark:#56b4e9}}
*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);
max-width:1100px;margin:0 auto;padding:1rem}h1{font-size:1.5rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem;
border-top:1px solid var(--line);padding-top:.8rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}
.notice{font-weight:600}.soft,figcaption{color:var(--soft);font-size:.875rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:right;vertical-align:top;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--ground)}
thead th{border-bottom-width:2px}
td small{color:var(--soft);display:block}.charts{display:flex;flex-wrap:wrap;gap:1rem 2rem;align-items:flex-start}
figure{margin:0;min-width:0}svg{width:100%;height:auto;font:12px system-ui,sans-serif;display:block}
.charts figure{flex:1 1 300px}
svg text{fill:var(--ink)}.area{fill:none;stroke:var(--line)}.guide{stroke:var(--soft);stroke-dasharray:4 4}
.bar{stroke:var(--mark);stroke-width:2.5}.dot{fill:var(--mark);fill-opacity:.8}
.case{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(240px,100%),1fr));gap:.6rem;margin:.2rem 0 1rem}
.case img{width:100%;height:auto;display:block}li{overflow-wrap:anywhere}
@media print{:root{--ink:#000;--soft:#444;--line:#999;--ground:#fff;--mark:#0072b2}
body{max-width:none;padding:0;font-size:10pt}
.scroll{overflow:visible}table{font-size:8pt}th,td{padding:.15rem .35rem;white-space:normal}
figure,tr,.case{break-inside:avoid}
h2,h3{break-after:avoid}.case{grid-template-columns:repeat(3,1fr)}}
"""


def page(comparison: Comparison) -> str:
    """Return the HTML of the page."""
    facts = comparison.facts
    title = f"Models of {comparison.modality} compared"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="notice">{escape(facts["notice"])}</p>',
        _verdicts(facts),
        "<h2>Models</h2>",
        _table(
            ("", "model", "task", "aliases", "confidence", "weights", "MB", "s an image"),
            [model_cells(model) for model in facts["models"]],
        ),
        '<p class="soft">Seconds per image: median of single images, one value for each test set; models take turns '
        "in one process on this machine.</p>",
    ]
    for position, each in enumerate(facts["test_sets"]):
        parts += [f"<h2>{escape(set_title(each))}</h2>", *_set(comparison, position, each)]
    parts += [f"<h2>Method</h2><p>{escape(facts['method'])}</p>", _list(facts["notes"])]
    return "\n".join([*parts, "</body></html>\n"])


def _verdicts(facts: Mapping[str, Any]) -> str:
    lines = [f"{each['name']} {each['alias']} {each['reason']}" for each in facts["verdicts"]]
    heads = [
        [label, *(_number(values.get(name)) for name in values)] for label, values in facts["head_to_head"].items()
    ]
    names = [ROWS[name] for name in next(iter(facts["head_to_head"].values()), {})]
    unregistered = "<p>None of these models is registered, so none can be champion.</p>"
    return (
        "<h2>Champions</h2>"
        + (_list(lines) or unregistered)
        + "<h3>Head to head</h3>"
        + _table(["", *names], heads)
        + '<p class="soft">Mean over all test sets of any class: all instances and detections in one class. '
        "Dice decides on the champion of the modality; it is 0 for a model that cannot process the images.</p>"
    )


def _set(comparison: Comparison, position: int, facts: Mapping[str, Any]) -> Iterable[str]:
    labels = list(facts["any_class"])
    if not labels:
        return
    if select_scores(facts) is not facts["by_class"]:
        yield '<p class="soft">Not all models have these classes: all instances and detections in one class.</p>'
    if note := patients_note(facts):
        yield f'<p class="notice">{escape(note)}</p>'
    sizes = ", ".join(f"{count} {size}" for size, count in facts["instances_by_size"].items())
    kept = [label for label, source in facts["source"].items() if source == "kept"]
    yield (
        f'<p class="soft">Instances: {sizes} (COCO: below 32², up to 96², from 96² pixels). '
        + (f"Detections of {', '.join(kept)} were saved by the training." if kept else "")
        + "</p>"
    )
    headings = ["", *labels, *(f"{label} − {labels[0]}" for label in labels[1:])]
    yield _table(headings, [[name, *values, *differences] for name, values, differences in score_rows(facts)])
    yield from _charts(facts, labels)
    yield (
        "<h3>Examples</h3>"
        '<p class="soft">This page contains no names of patients and files, but text inside an image remains.</p>'
    )
    for case in draw_cases(comparison.sets[position], comparison.on(position)):
        yield _case(case)


def _charts(facts: Mapping[str, Any], labels: Sequence[str]) -> Iterable[str]:
    for other in labels[1:]:
        names = (labels[0], other)
        found = read_differences(facts, other)
        # Scores from 0 to 1 share an axis; distances in pixels do not belong on it.
        rows = [(label, found[name]) for name, label in ROWS.items() if name in found and name not in LOWER_SCORES]
        dots = scatter_chart(*(facts["dice_of_patients"][label] for label in names), names)
        yield f'<h3>{escape(labels[0])} and {escape(other)}</h3><div class="charts">'
        yield f"<figure>{dots}<figcaption>Dice of each patient; above the diagonal {escape(other)} is better."
        yield "</figcaption></figure>"
        if bars := interval_chart(rows, names):
            yield f"<figure>{bars}<figcaption>Differences with 95 % intervals over patients.</figcaption></figure>"
        yield "</div>"


def _case(case: Case) -> str:
    figures = "".join(
        f'<figure><img src="{data_url(picture)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
        for caption, picture in case.pictures
    )
    title = f"{case.kind}: image {case.number} of the test set"
    return f'<p class="soft">{escape(title)}</p><div class="case">{figures}</div>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    """Render the first line, with its indent, and the others smaller below it."""
    first, *below = text.split("\n")
    indent = "&emsp;" if first.startswith(" ") else ""
    return indent + escape(first.strip()) + "".join(f"<small>{escape(line)}</small>" for line in below)


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
