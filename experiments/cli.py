"""The console script `mrcnn`: one group of commands, each imported when it is used."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

import click

from experiments.commands.command import run
from experiments.config.command_line import SETTINGS
from mrcnn.errors import InputError

COMMANDS = {
    "check": ("experiments.commands.check", "report the content, the errors and pictures of a data set"),
    "plan": ("experiments.commands.plan", "print what would be trained on a data set, and why"),
    "convert": ("experiments.commands.convert", "write a data set in the form of another annotation tool"),
    "prepare": ("experiments.commands.prepare", "make a data set with left and right lungs from chest films"),
    "train": ("experiments.commands.train", "train, evaluate, track and register a Mask R-CNN"),
    "pretrain": ("experiments.commands.pretrain", "train on phantoms for the initial weights of trainings"),
    "sweep": ("sweeps.command", "search the settings of a task with many trainings, and register the best model"),
    "baselines": ("experiments.commands.baselines", "train a ResUNet and a classifier on the same split, and compare"),
    "predict": ("experiments.commands.predict", "find instances in images, volumes and videos with a trained model"),
    "suggest": ("experiments.commands.suggest", "choose the images to annotate next, with detections to correct"),
    "evaluate": ("experiments.commands.evaluate", "measure a trained model on another annotated data set"),
    "report": ("experiments.commands.report", "make the report of a finished run again, or print it as a PDF"),
    "demo": ("experiments.commands.demo", "serve a local page that shows the predictions of a trained model"),
    "compare": (
        "experiments.commands.compare",
        "compare trained models on the same images, and choose a champion",
    ),
    "export": ("experiments.commands.export", "write a trained model as a TensorFlow SavedModel or as ONNX"),
    "sync": ("experiments.commands.sync", "upload the records of trainings whose tracking server was away"),
}
"""Each command with the module that defines it as `command`, and its line in the help."""


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return import_module(COMMANDS[cmd_name][0]).command if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(COMMANDS)}"
            raise InputError(f"{args[0]!r}: no such command; {hint}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args or ["--help"])
        except click.NoSuchOption as error:
            raise InputError(f"{error.option_name}: no such option; expected a command, --help or --version") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group("mrcnn", cls=_Group, context_settings=SETTINGS, subcommand_metavar="COMMAND ...")
@click.version_option(version("medmrcnn"), message="medmrcnn %(version)s")
def group() -> None:
    """Turn a folder of annotated medical images into a measured, tracked and registered Mask R-CNN.

    \b
    mrcnn train --dataset my-images
    mrcnn predict last new-images --output found

    The first steps are in docs/tutorials/first-run.md. `mrcnn COMMAND --help` explains a command. Research use only.

    \b
    Shell completion, for the start-up file of the shell:
      bash  eval "$(_MRCNN_COMPLETE=bash_source mrcnn)"
      zsh   eval "$(_MRCNN_COMPLETE=zsh_source mrcnn)"
      fish  _MRCNN_COMPLETE=fish_source mrcnn | source
    """  # noqa: D301 - the character by which click keeps line breaks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    return run(group, arguments, "mrcnn")
