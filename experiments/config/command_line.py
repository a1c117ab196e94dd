"""The command-line parser that all commands share: click, with one-line errors that name the nearest option.

Dashes and underscores in option names are alike. A boolean option stands alone or has a value: `--promote`,
`--promote true`. The second form is the one that `mlflow run -P promote=true` produces.
"""

from __future__ import annotations

import difflib
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from experiments.config.overrides import parse_value, parse_words
from mrcnn.errors import InputError

WIDTH = 100
LONG = 20
"""The number of options above which an error refers to the help in place of a list."""
TEXTS, VALUES = "experiments.config.texts", "experiments.config.values"
"""Keys of `click.Context.meta`: the texts on the command line, and the values that the help shows."""
SETTINGS = {
    "help_option_names": ["--help", "-h"],
    "token_normalize_func": lambda token: token.replace("-", "_"),
    "max_content_width": WIDTH,
    "terminal_width": WIDTH,
}


class PathText(click.ParamType):
    """A path as text, which the shell completes. `click.Path` would also access the file."""

    name = "path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class Option(click.Option):
    """An option with one value.

    Args:
        group: heading of the help under which the option is listed.
        several: accept several words after the option, as in `--models resunet classifier`.
        listed: show the option in the help; `mrcnn train --help` alone lists the options of the configuration.
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
        try:
            values, rest, order = self.make_parser(ctx).parse_args(list(args))
            counts = Counter(param for param in order if isinstance(param, click.Option))
            for param, count in counts.items():
                if count > 1 and not param.multiple:
                    raise InputError(f"{param.opts[0]}: expected once")
            if rest:
                raise InputError(
                    f"{rest[0]!r}: expected an option such as --epochs 3; a list is one value, as in '[a, b]'"
                )
            # A boolean option without a value is true.
            ctx.meta[TEXTS] = {
                param.name: value if isinstance(value := values[param.name], str) else "true" for param in counts
            }
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise InputError(self._message(error, ctx)) from error

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.help_values is not None:
            ctx.meta[VALUES] = self.help_values(ctx.meta.get(TEXTS, {}))
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if not isinstance(param, click.Option) or not getattr(param, "listed", True):
                continue
            if (record := param.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(param, "group", "Options"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)

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
        """Map every spelling of an option, with underscores, to the first one."""
        return {
            f"--{spelled.lstrip('-').replace('-', '_')}": param.opts[0]
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for spelled in param.opts
        }

    def _nearest(self, name: str, ctx: click.Context) -> str:
        """Suggest the option with the most similar name, or list the options."""
        names = {spelled.lstrip("-"): declared for spelled, declared in self._declared(ctx).items()}
        if close := difflib.get_close_matches(name.lstrip("-"), names, n=1):
            return f"did you mean {names[close[0]]}?"
        options = self.get_params(ctx)
        listed = [param for param in options if isinstance(param, Option) and param.listed]
        others = any(isinstance(param, Option) and not param.listed for param in options)
        if len(listed) > LONG:
            return f"`{ctx.command_path} --help` lists them"
        names_listed = ", ".join(param.opts[0] for param in listed)
        return f"expected {names_listed}{', or an option that `mrcnn train --help` lists' if others else ''}"


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
