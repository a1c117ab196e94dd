"""The comparison as one page that needs no other file, no network and no script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from experiments.comparison.charts import intervals, scatter
from experiments.comparison.comparison import Comparison, differing_of
from experiments.comparison.pictures import Case, data_address, drawn_cases
from experiments.comparison.tables import model_cells, score_rows, set_title, shown_scores, too_few
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
    """The whole page."""
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
        '<p class="soft">Seconds an image: median of single images, the models in turns in one process on this '
        "machine; one value a test set.</p>",
    ]
    for position, each in enumerate(facts["test_sets"]):
        parts += [f"<h2>{escape(set_title(each))}</h2>", *_set(comparison, position, each)]
    parts += [f"<h2>How this was measured</h2><p>{escape(facts['method'])}</p>", _list(facts["notes"])]
    return "\n".join([*parts, "</body></html>\n"])


def _verdicts(facts: Mapping[str, Any]) -> str:
    lines = [f"{each['name']} {each['alias']} {each['reason']}" for each in facts["verdicts"]]
    heads = [
        [label, *(_number(values.get(name)) for name in values)] for label, values in facts["head_to_head"].items()
    ]
    names = [ROWS[name] for name in next(iter(facts["head_to_head"].values()), {})]
    told = "<p>None of these models is registered, so none can be champion.</p>"
    return (
        "<h2>Champions</h2>"
        + (_list(lines) or told)
        + "<h3>Head to head</h3>"
        + _table(["", *names], heads)
        + '<p class="soft">Mean over all test sets of any class: every instance and every detection counts as of one '
        "class. Dice decides who is champion of the modality; 0 where a model cannot take the images.</p>"
    )


def _set(comparison: Comparison, position: int, facts: Mapping[str, Any]) -> Iterable[str]:
    labels = list(facts["any_class"])
    if not labels:
        return
    whole = shown_scores(facts)
    if whole is not facts["by_class"]:
        yield '<p class="soft">Not all models know these classes: every instance and detection counts as of one.</p>'
    if note := too_few(facts):
        yield f'<p class="notice">{escape(note)}</p>'
    sizes = ", ".join(f"{count} {size}" for size, count in facts["instances_by_size"].items())
    kept = [label for label, source in facts["source"].items() if source == "kept"]
    yield (
        f'<p class="soft">Instances: {sizes} (COCO: below 32², up to 96², from 96² pixels). '
        + (f"Detections of {', '.join(kept)} are those that the training kept." if kept else "")
        + "</p>"
    )
    headings = ["", *labels, *(f"{label} − {labels[0]}" for label in labels[1:])]
    yield _table(headings, [[name, *values, *differences] for name, values, differences in score_rows(facts)])
    yield from _charts(facts, labels)
    yield (
        "<h3>The same cases</h3>"
        '<p class="soft">Patients and files are not named here, but writing within an image stays.</p>'
    )
    for case in drawn_cases(comparison.sets[position], comparison.on(position)):
        yield _case(case)


def _charts(facts: Mapping[str, Any], labels: Sequence[str]) -> Iterable[str]:
    for other in labels[1:]:
        names = (labels[0], other)
        found = differing_of(facts, other)
        # Scores from 0 to 1 share an axis; distances in pixels do not belong on it.
        rows = [(label, found[name]) for name, label in ROWS.items() if name in found and name not in LOWER_SCORES]
        dots = scatter(*(facts["dice_of_patients"][label] for label in names), names)
        yield f'<h3>{escape(labels[0])} and {escape(other)}</h3><div class="charts">'
        yield f"<figure>{dots}<figcaption>Dice of each patient; above the diagonal {escape(other)} is better."
        yield "</figcaption></figure>"
        if bars := intervals(rows, names):
            yield f"<figure>{bars}<figcaption>Differences with 95 % intervals over patients.</figcaption></figure>"
        yield "</div>"


def _case(case: Case) -> str:
    figures = "".join(
        f'<figure><img src="{data_address(picture)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
        for caption, picture in case.pictures
    )
    told = f"{case.kind}: image {case.number} of the test set"
    return f'<p class="soft">{escape(told)}</p><div class="case">{figures}</div>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str) -> str:
    """The first line, the others smaller below it; an indented one stays indented."""
    first, *below = text.split("\n")
    indent = "&emsp;" if first.startswith(" ") else ""
    return indent + escape(first.strip()) + "".join(f"<small>{escape(line)}</small>" for line in below)


def _list(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
