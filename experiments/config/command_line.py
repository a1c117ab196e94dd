"""The command-line parser that all commands share: click, with one-line errors that name the nearest option.

Dashes and underscores in option names are alike. A boolean option stands alone or has a value: `--promote`,
`--promote true`. The second form is the one that `mlflow run -P promote=true` produces.
"""

from __future__ import annotations

import difflib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from experiments.config.overrides import parse_value, parse_words
from mrcnn.errors import InputError

WIDTH = 100
LONG = 20
"""The number of options above which an error refers to the help in place of a list."""
TEXTS, VALUES, ALL = "experiments.config.texts", "experiments.config.values", "experiments.config.all"
"""Keys of `click.Context.meta`: the texts on the command line, the values that the help shows, and whether it shows all
options."""
SETTINGS = {
    "help_option_names": ["--help", "-h"],
    "token_normalize_func": lambda token: token.replace("-", "_"),
    "max_content_width": WIDTH,
}


class PathText(click.ParamType):
    """A path as text, which the shell completes. `click.Path` would also access the file."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class Option(click.Option):
    """An option with one value.

    Args:
        group: heading under which `--help all` lists the option.
        several: accept several words after the option, as in `--models resunet classifier`.
        listed: show the option in `--help`, too.

    Attributes:
        shown: the spelling in help and messages.
    """

    def __init__(
        self,
        declarations: Sequence[str],
        *,
        group: str = "Options",
        several: bool = False,
        listed: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(declarations, **settings)
        self.group = group
        self.several = several
        self.listed = listed
        self.shown = self.opts[0]


class Parser(click.Command):
    """A command line without the work behind it. Every error is an `InputError` of one line.

    Args:
        help_values: compute the values that the help shows from the texts on the command line.
    """

    def __init__(
        self,
        name: str | None,
        *,
        help_values: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(name, context_settings=SETTINGS, **settings)
        self.help_values = help_values

    def parse(self, arguments: Sequence[str]) -> Any:
        """Return the result of the command's function for `arguments`.

        Raises:
            InputError: an unknown option or an invalid value.
        """
        with self.make_context(f"mrcnn {self.name}", list(arguments)) as context:
            return click.Command.invoke(self, context)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        args = self._join_split_lists(args)
        if ctx.resilient_parsing:  # shell completion
            return super().parse_args(ctx, args)
        if "-P" in args:
            text = " ".join(args[args.index("-P") + 1 :][:2])
            raise InputError(f"-P {text}: -P is an option of `mlflow run`; {self._written_as_option(text, ctx)}")
        try:
            values, rest, order = self.make_parser(ctx).parse_args(list(args))
            counts = Counter(param for param in order if isinstance(param, click.Option))
            for param, count in counts.items():
                if count > 1 and not param.multiple:
                    raise InputError(f"{param.opts[0]}: expected once")
            if rest:
                raise InputError(f"{rest[0]!r}: {self._written_as_option(' '.join(rest[:2]), ctx)}")
            # A boolean option without a value is true.
            ctx.meta[TEXTS] = {
                param.name: value if isinstance(value := values[param.name], str) else "true" for param in counts
            }
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise InputError(self._message(error, ctx)) from error

    def get_help_option(self, ctx: click.Context) -> click.Option:
        """Return the option --help, whose value `all` shows the options that are not listed."""

        def show(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
            if value is None or ctx.resilient_parsing:
                return
            ctx.meta[ALL] = value == "all"
            click.echo(ctx.get_help())
            ctx.exit()

        return click.Option(
            self.get_help_option_names(ctx),
            is_flag=False,
            flag_value="listed",
            expose_value=False,
            is_eager=True,
            callback=show,
            metavar="[all]",
            help="show this text; all: with every option",
        )

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.help_values is not None:
            ctx.meta[VALUES] = self.help_values(ctx.meta.get(TEXTS, {}))
        groups: dict[str, list[tuple[str, str]]] = {}
        every, unlisted = ctx.meta.get(ALL, False), 0
        for param in self.get_params(ctx):
            if not isinstance(param, click.Option):
                continue
            if not every and not getattr(param, "listed", True):
                unlisted += 1
            elif (record := param.get_help_record(ctx)) is not None:
                group = getattr(param, "group", "Options") if every else "Options"
                groups.setdefault(group, []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)
        if unlisted:
            formatter.write_paragraph()
            formatter.write_text(f"{unlisted} more options: {ctx.command_path} --help all")

    def _join_split_lists(self, args: Sequence[str]) -> list[str]:
        """Join the words of a list that the shell has split at its spaces: `[a,` `b]` is `[a, b]`."""
        several = {name for param in self.params if isinstance(param, Option) and param.several for name in param.opts}
        joined, words = [], deque(args)
        while words:
            word = words.popleft()
            joined.append(word)
            name, equals, value = word.partition("=")
            if not name.startswith("--"):
                continue
            if not equals:
                if not words or words[0].startswith("--"):
                    continue
                value = words.popleft()
            following = next((at for at, each in enumerate(words) if each.startswith("--")), len(words))
            if value.startswith("["):
                at = -1 if "]" in value else next((n for n in range(following) if words[n].endswith("]")), -1)
                value = " ".join([value, *(words.popleft() for _ in range(at + 1))])
            elif name in several:
                value = ",".join([value, *(words.popleft() for _ in range(following))])
            joined[-1:] = [f"{name}={value}"] if equals else [name, value]
        return joined

    def _message(self, error: click.UsageError, ctx: click.Context) -> str:
        if isinstance(error, click.NoSuchOption):
            return f"{error.option_name}: no such option; {self._nearest(error.option_name, ctx)}"
        if isinstance(error, click.BadOptionUsage):
            return f"{self._declared(ctx).get(error.option_name, error.option_name)}: expected a value after it"
        if isinstance(error, click.MissingParameter) and error.param is not None:
            if isinstance(error.param, click.Option):
                return f"{error.param.opts[0]}: missing; expected {error.param.make_metavar(ctx)}"
            return f"{error.param.make_metavar(ctx)}: missing; usage: {' '.join(self.get_usage(ctx).split()[1:])}"
        return " ".join(error.format_message().split())

    def _declared(self, ctx: click.Context) -> dict[str, str]:
        """Map every spelling of an option, with underscores, to the one in messages."""
        return {
            f"--{spelled.lstrip('-').replace('-', '_')}": getattr(param, "shown", param.opts[0])
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for spelled in param.opts
        }

    def _most_similar(self, name: str, ctx: click.Context) -> str | None:
        """Return the option whose name is most similar to `name`, or None."""
        names = {spelled.lstrip("-"): shown for spelled, shown in self._declared(ctx).items()}
        close = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), names, n=1)
        return names[close[0]] if close else None

    def _nearest(self, name: str, ctx: click.Context) -> str:
        """Suggest the option with the most similar name, or list the options."""
        if close := self._most_similar(name, ctx):
            return f"did you mean {close}?"
        options = self.get_params(ctx)
        listed = [param for param in options if isinstance(param, Option) and param.listed]
        others = any(isinstance(param, Option) and not param.listed for param in options)
        if len(listed) > LONG:
            return f"`{ctx.command_path} --help` lists them"
        names_listed = ", ".join(param.shown for param in listed)
        return f"expected {names_listed}{f', or one that `{ctx.command_path} --help all` lists' if others else ''}"

    def _written_as_option(self, text: str, ctx: click.Context) -> str:
        """Suggest how to write `text`, which is not an option: `epochs=3`, `epochs 3`, or a folder."""
        name, _, value = text.replace("=", " ", 1).partition(" ")
        if option := self._most_similar(name, ctx):
            return f"did you mean {option} {value.partition(' ')[0]}".rstrip() + "?"
        first = text.partition(" ")[0]
        if "--dataset" in self._declared(ctx) and Path(first).expanduser().exists():
            return f"did you mean --dataset {first}?"
        return "expected an option such as --epochs 3; a list is one value, as in '[a, b]'"


def word_list(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Parse a list of words in any of its forms; a callback of an option."""
    return None if value is None else tuple(parse_words(param.opts[0].removeprefix("--"), value))


def boolean(ctx: click.Context, param: click.Parameter, value: str) -> bool:
    """Parse true or false; a callback of an option."""
    parsed = parse_value(param.opts[0].removeprefix("--"), value)
    if not isinstance(parsed, bool):
        raise InputError(f"{param.opts[0]} {value}: expected true or false")
    return parsed


def fraction(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Parse a number from 0 to 1; a callback of an option."""
    if value is None:
        return None
    parsed = parse_value(param.opts[0].removeprefix("--"), value)
    if isinstance(parsed, bool) or not isinstance(parsed, int | float) or not 0 <= parsed <= 1:
        raise InputError(f"{param.opts[0]} {value}: expected a number from 0 to 1")
    return float(parsed)


def option(*declarations: str, **settings: Any) -> Callable[[Any], Any]:
    """Declare an option whose value is text."""
    return click.option(*declarations, cls=Option, **{"type": str, **settings})


def switch(*declarations: str, **settings: Any) -> Callable[[Any], Any]:
    """Declare a boolean option, false by default, that stands alone or has a value."""
    return option(
        *declarations, is_flag=False, flag_value="true", default="false", callback=boolean, metavar="", **settings
    )
