"""The description of a registered model: what it is, what it reached and on what, and what it is not for."""

from __future__ import annotations

import mlflow

from mrcnn.errors import counted
from mrcnn.inference.drawing import FOOTER
from trackers.runs.address import run_url
from trackers.runs.names import tracked_name
from trackers.runs.reader import VAL, RunRecord

KINDS = {"resunet": "ResUNet", "classifier": "image classifier"}
MASK_RCNN = "Mask R-CNN, instance segmentation"
LONGEST = 5000
"""Characters of a description that MLflow's database keeps (mlflow.store.model_registry.dbmodels.models)."""
MOST_SCORES, MOST_CLASSES, LONGEST_NAME = 30, 12, 60
ALWAYS = ("mask_ap50", "mask_ap", "dice", "volume_dice", "f1")
"""Scores that are told without an interval too."""
_MARKS = "\\`*_{}[]()<>#+-!|&~"


def model_card(run: RunRecord, name: str, version: str, metric: str, competitors: int) -> str:
    """Write a model card in Markdown for version `version` of the registered model `name`, trained by `run`.

    Facts that the run does not record are left out. Scores are those with an interval, and `ALWAYS`, by their names in
    the run, without those of single classes. `competitors` counts the registered models that were chosen by the same
    metric on the same validation data, this one included.
    """
    task, modality = run.tags.get("task", "?"), run.tags.get("modality", "?")
    kind = KINDS.get(run.tags.get("model", ""), MASK_RCNN)
    address = run_url(mlflow.get_tracking_uri(), run.experiment_id, run.run_id)
    parts = [
        f"**{FOOTER}: not a medical device.**",
        f"{kind}, for the task {_inline(task)} ({_inline(modality)}). "
        f"Trained by run [{run.run_id[:8]}]({address}), whose report.html tells more.",
        _data(run),
        _scores(run),
        _selection(run, metric, competitors),
        _threshold(run),
        "**Intended use:** research on images like those it was trained on, read by someone who can judge them. "
        "**Limits:** images of other machines, views and populations may do worse; look at the intervals, which come "
        "from resampled patients of one data set. It has not been tested for use on patients.",
        f"```python\nimport mlflow\nmodel = mlflow.pyfunc.load_model(\"models:/{name}/{version}\")\n"
        "model.predict(image)  # an array (H, W) or (H, W, C), or a list of them\n```",
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part)[:LONGEST]


def pretrained_card(run: RunRecord, name: str, version: str, metric: str, value: float) -> str:
    """Write the card of initial weights that `run` trained on phantoms up to a validation score of `value`."""
    task, modality, start = run.tags.get("task", "?"), run.tags.get("modality", "?"), run.params.get("train.weights")
    address = run_url(mlflow.get_tracking_uri(), run.experiment_id, run.run_id)
    parts = [
        f"**{FOOTER}: not a medical device.**",
        f"Initial weights for trainings on {_inline(modality)}, not a model for predictions: "
        f"{run.params.get('model.backbone')}, trained on phantoms of the task {_inline(task)} by run "
        f"[{run.run_id[:8]}]({address}), which started from `{start}`. Validation {metric} on phantoms: {value:.3f}.",
        _data(run),
        f"```sh\nmrcnn train --dataset my-images --weights models:/{name}/{version}\n```",
    ]
    return "\n\n".join(part for part in parts if part)[:LONGEST]


def _data(run: RunRecord) -> str:
    if not run.data:
        return ""
    whole, splits = run.profile.get("whole", {}), run.profile.get("splits", {})
    told = [
        f"{split} {counted(part['images'], 'image')} of {counted(part['patients'], 'patient')}"
        for split, part in splits.items()
        if part["images"]
    ]
    names = list(whole.get("instances", {}))
    classes = ", ".join(map(_inline, names[:MOST_CLASSES]))
    classes += f" and {len(names) - MOST_CLASSES} more" if len(names) > MOST_CLASSES else ""
    digest = run.digest(run.split)
    lines = [f"**Data:** {_inline(run.data_name)}" + (f", split by patient: {', '.join(told)}" if told else "")]
    lines += [
        "**These images are phantoms, made by a program: the scores say nothing about patients.**"
    ] * run.synthetic
    lines += [f"**Classes:** {classes}"] if classes else []
    lines += [f"**Digest of the {run.split} split:** `{digest}`"] if digest else []
    return "  \n".join(lines)


def _scores(run: RunRecord) -> str:
    classes = {tracked_name(name) for name in run.profile.get("whole", {}).get("instances", {})}
    rows = []
    for name, value in run.scores().items():
        ends = run.interval(name)
        if (ends or name in ALWAYS) and name.partition("/")[2] not in classes:
            rows.append(f"| {name} | {value:.3f} | {f'{ends[0]:.3f} – {ends[1]:.3f}' if ends else ''} |")
    if not rows:
        return ""
    where = f"{run.split.replace('_', ' ')} split"
    if run.split == VAL:
        where = "validation split, which also chose the epoch: there is no test split"
    return f"Of the {where}:\n\n| metric | value | 95 % interval |\n|---|---|---|\n" + "\n".join(rows[:MOST_SCORES])


def _selection(run: RunRecord, metric: str, competitors: int) -> str:
    trainings = int(run.metrics.get("trials_finished", 0)) or int(
        run.params.get("train.seeds", "null").replace("null", "0")
    )
    others = "no other registered model" if competitors < 2 else counted(competitors - 1, "other registered model")
    best = f" It is the best of {trainings} trainings of its run." if trainings > 1 else ""
    return (
        f"**Selection:** validation {metric} decides on the champion; test scores decide nothing. At its registration "
        f"this version competed with {others} on the same validation data.{best}"
    )


def _threshold(run: RunRecord) -> str:
    for name in ("confidence", "threshold"):
        if name in run.metrics:
            chosen = run.params.get(f"evaluate.{name}")
            how = "chosen on the validation split" if chosen in (None, "auto") else "given beforehand"
            return f"**Working threshold:** {run.metrics[name]:g}, {how}"
    return ""


def _inline(words: str) -> str:
    """`words` as text that Markdown and HTML take for nothing else; long ones are cut."""
    short = words if len(words) <= LONGEST_NAME else words[: LONGEST_NAME - 1] + "…"
    return "".join(f"\\{letter}" if letter in _MARKS else letter for letter in " ".join(short.split()))
