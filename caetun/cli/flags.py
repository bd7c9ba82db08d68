"""Flags of the command line, made from the options in `caetun/settings.py`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container
from typing import TYPE_CHECKING, Final, NoReturn

from caetun.errors import ConfigurationError
from caetun.options import SWITCH, Option
from caetun.settings import GROUPS, OPTIONS

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

# chosen by us
_HELP_COLUMN: Final = 30
"""Column at which the explanations begin."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line each, and whose flags have no abbreviations."""

    def __init__(self, prog: str, description: str, usage: str | None = None, epilog: str | None = None) -> None:
        super().__init__(prog, usage, description, epilog, formatter_class=_Formatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise ConfigurationError instead of printing the usage and exiting."""
        raise ConfigurationError(f"{message.removeprefix('argument ')}: see {self.prog} --help")

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Write the help; raises BrokenPipeError, which argparse would keep to itself."""
        (file or sys.stdout).write(self.format_help())

    def read(self, argv: list[str]) -> argparse.Namespace:
        """Parse; raises ConfigurationError, with a suggestion for a flag that does not exist."""
        namespace, unknown = self.parse_known_args(argv)
        if unknown:
            word = unknown[0].partition("=")[0]
            import difflib  # here: most have no need of it

            near = difflib.get_close_matches(word, self._option_string_actions, n=1)
            advice = f"did you mean {near[0]}?" if near else f"see {self.prog} --help"
            raise ConfigurationError(f"{word}: no such option: {advice}")
        return namespace


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of description and examples, and gives flags a wide column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)


def add_options(parser: Parser, groups: Container[str] = GROUPS, without: Container[str] = ()) -> None:
    """Declare the options of some groups, each group under its heading, less some by name."""
    for group, heading in GROUPS.items():
        if group in groups:
            arguments = parser.add_argument_group(heading)
            for option in OPTIONS.values():
                if option.group == group and option.name not in without:
                    _add_option(arguments, option)


def given(namespace: argparse.Namespace) -> dict[str, object]:
    """What was given, for `sources.load`: field name -> text, list of texts or bool."""
    return {name: value for name, value in vars(namespace).items() if name in OPTIONS}


def _add_option(arguments: argparse._ArgumentGroup, option: Option) -> None:
    """Declare one; an option that is not given leaves no trace in the namespace."""
    flags = [option.short, option.flag] if option.short else [option.flag]
    text = argparse.SUPPRESS if option.hidden else _help(option)
    if option.kind is SWITCH:
        action = argparse.BooleanOptionalAction if option.default is True else "store_true"
        arguments.add_argument(*flags, dest=option.name, action=action, default=argparse.SUPPRESS, help=text)
        return
    arguments.add_argument(
        *flags,
        dest=option.name,
        action="append" if option.repeatable else "store",
        metavar=option.kind.metavar,
        default=argparse.SUPPRESS,
        help=text,
    )


def _help(option: Option) -> str:
    """The explanation, and in brackets what is allowed."""
    notes = [] if option.kind is SWITCH else [option.kind.limits]
    notes += ["repeatable"] if option.repeatable else []
    notes += [f"default {option.default_text}"] if option.default_text and option.kind is not SWITCH else []
    brackets = "; ".join(note for note in notes if note)
    return (option.help.replace("`", "") + (f" ({brackets})" if brackets else "")).replace("%", "%%")
