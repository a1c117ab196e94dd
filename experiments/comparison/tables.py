"""Print the comparison on the terminal, and build the table cells for terminal and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from experiments.comparison.comparison import SIZES, Comparison, read_differences
from experiments.comparison.paired_difference import BOOTSTRAP
from experiments.evaluation.tables import PER_CLASS, ROWS, difference_text, interval_text
from mrcnn.errors import counted


def score_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield for each score of a test set its name and label, a cell for each model, and one for each difference."""
    table = select_scores(facts)
    labels = list(table)
    for name, label in _names(facts["classes"]):
        if any(name in values for values in table.values()):
            differences = [_difference(read_differences(facts, other).get(name)) for other in labels[1:]]
            yield name, label, [_score(table[each], name) for each in labels], differences


def select_scores(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the scores by class if all models have the classes of the test set, else those of any class."""
    any_class = facts["any_class"]
    return facts["by_class"] if set(facts["by_class"]) == set(any_class) else any_class


def set_title(facts: Mapping[str, Any]) -> str:
    """Describe the images of a test set in a line."""
    left_out = f"; {facts['left_out']} excluded, because another model has seen them" * bool(facts["left_out"])
    return f"{facts['name']}: {counted(facts['images'], 'image')}, patients: {facts['patients']}{left_out}"


def patients_note(facts: Mapping[str, Any]) -> str:
    """Explain why there are no intervals; an empty text if there are."""
    if facts["enough_patients"]:
        return ""
    return f"Patients: {facts['patients']}, too few for intervals and p-values; these scores prove no difference."


def print_comparison(comparison: Comparison, console: Any) -> None:
    """Print models, scores, differences and notes."""
    facts = comparison.facts
    console.print(models_table(facts["models"]))
    for each in facts["test_sets"]:
        console.print(f"\n{set_title(each)}", style="bold", markup=False)
        labels = list(each["any_class"])
        table = Table()
        table.add_column("by class" if select_scores(each) is each["by_class"] else "any class")
        for label in labels:
            table.add_column(label, justify="right")
        for label in labels[1:]:
            table.add_column(f"{label} − {labels[0]}", justify="right")
        for _, label, values, differences in score_rows(each):
            table.add_row(label, *values, *differences)
        console.print(table)
        if note := patients_note(each):
            console.print(note, style="yellow", markup=False)
    for label, values in facts["head_to_head"].items():
        means = ", ".join(f"{ROWS[name]} {value:.3f}" for name, value in values.items())
        console.print(f"Head to head, any class, mean of all test sets: {label} {means}", markup=False)
    for note in facts["notes"]:
        console.print(f"note: {note}", style="yellow", markup=False)


def models_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """Build a table with a row for each model, without the aliases, which would be too wide."""
    table = Table()
    for heading in ("", "model", "task", "confidence", "weights", "MB", "s per image"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("", "model", "task") else "right")
    for model in models:
        label, title, task, _, *numbers = model_cells(model)
        table.add_row(label, title, task, *numbers)
    return table


def model_cells(model: Mapping[str, Any]) -> list[str]:
    """Return the cells of a model: label, title, task, aliases, confidence, weights, MB, seconds per image."""
    seconds = " ".join(f"{value:.3f}" for value in model["seconds_per_image"].values())
    return [
        model["label"], model["title"], model["task"], ", ".join(model["aliases"]), f"{model['confidence']:g}",
        f"{model['weights']:,}".replace(",", " "), f"{model['megabytes']:.1f}", seconds,
    ]  # fmt: skip


def _names(class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, label in ROWS.items():
        yield name, label
        if name == "mask_ap":
            yield from ((f"mask_ap_{size}", f"  {size} instances") for size in SIZES)
        if name in PER_CLASS and len(class_names) > 1:
            yield from ((f"{name}/{each}", f"  {each}") for each in class_names)


def _score(values: Mapping[str, float], name: str) -> str:
    if name not in values:
        return ""
    return f"{values[name]:.3f}\n{interval_text(values, name)}".strip()


def _difference(found: Any) -> str:
    if found is None:
        return ""
    text = difference_text(found.value)
    if found.low is not None:
        text += f"\n{difference_text(found.low)} to {difference_text(found.high)}"
    if found.p is not None:
        text += f"\np {p_text(found.p)}{' b' if found.test == BOOTSTRAP else ''}"
    return text


def p_text(p: float) -> str:
    """Format a p-value as in journals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
