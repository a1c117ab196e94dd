"""The comparison for the terminal, and the cells that the page shows too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from experiments.comparison.comparison import SIZES, Comparison, differing_of
from experiments.comparison.paired_difference import BOOTSTRAP
from experiments.evaluation.tables import PER_CLASS, ROWS


def score_rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Of a test set's facts: label of a score, then a cell for each model, then one for each difference."""
    table = shown_scores(facts)
    labels = list(table)
    for name, label in _names(facts["classes"]):
        if any(name in values for values in table.values()):
            differences = [_difference(differing_of(facts, other).get(name)) for other in labels[1:]]
            yield label, [_score(table[each], name) for each in labels], differences


def shown_scores(facts: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By class where all models of the test set know its classes, of any class otherwise."""
    everybody = facts["any_class"]
    return facts["by_class"] if set(facts["by_class"]) == set(everybody) else everybody


def set_title(facts: Mapping[str, Any]) -> str:
    """What the images are, in a line."""
    left_out = f"; {facts['left_out']} further left out, which another of the models has seen" * bool(facts["left_out"])
    return f"{facts['name']}: {facts['images']} images, patients: {facts['patients']}{left_out}"


def too_few(facts: Mapping[str, Any]) -> str:
    """Why there are no intervals, or nothing."""
    if facts["enough_patients"]:
        return ""
    return f"Patients: {facts['patients']}, too few for intervals and p-values; these numbers alone decide nothing."


def print_comparison(comparison: Comparison, console: Any) -> None:
    """Prints models, scores, differences and verdicts."""
    facts = comparison.facts
    console.print(models_table(facts["models"]))
    for each in facts["test_sets"]:
        console.print(f"\n{set_title(each)}", style="bold", markup=False, soft_wrap=True)
        labels = list(each["any_class"])
        table = Table()
        table.add_column("by class" if shown_scores(each) is each["by_class"] else "any class")
        for label in labels:
            table.add_column(label, justify="right")
        for label in labels[1:]:
            table.add_column(f"{label} − {labels[0]}", justify="right")
        for name, values, differences in score_rows(each):
            table.add_row(name, *values, *differences)
        console.print(table)
        if note := too_few(each):
            console.print(note, style="yellow", markup=False, soft_wrap=True)
    for label, values in facts["head_to_head"].items():
        told = ", ".join(f"{ROWS[name]} {value:.3f}" for name, value in values.items())
        console.print(f"Head to head, any class, mean of all test sets: {label} {told}", markup=False, soft_wrap=True)
    for note in facts["notes"]:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)


def models_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """A row a model; its aliases, which would not fit, stand among the verdicts."""
    table = Table()
    for heading in ("", "model", "task", "confidence", "weights", "MB", "s an image"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("", "model", "task") else "right")
    for model in models:
        label, title, task, _, *numbers = model_cells(model)
        table.add_row(label, title, task, *numbers)
    return table


def model_cells(model: Mapping[str, Any]) -> list[str]:
    """Of a model's facts."""
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
    ends = [f"{values[name + end]:.3f}" for end in ("_lo", "_hi") if name + end in values]
    return f"{values[name]:.3f}" + (f"\n{ends[0]} – {ends[1]}" if ends else "")


def _difference(found: Any) -> str:
    if found is None:
        return ""
    told = f"{found.value:+.3f}"
    if found.low is not None:
        told += f"\n{found.low:+.3f} to {found.high:+.3f}"
    if found.p is not None:
        told += f"\np {p_text(found.p)}{' b' if found.test == BOOTSTRAP else ''}"
    return told


def p_text(p: float) -> str:
    """As journals print it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
