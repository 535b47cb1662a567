"""The parser of the command line: a wrong word is told in one line, with the word that may have been meant.

Modules of commands import this one and little else at their top: the parser of every command is built for each call,
also for ``vastgpu --help``. What a command needs is imported by its handler.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn
from typing import TypeAlias

from pytest_vastgpu.cli.exit_codes import ExitCode
from pytest_vastgpu.core.text.nearest import did_you_mean

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What the function ``add_<name>_parser`` of a command's module is given, to add the command's parser to it.

The parser sets ``handler``: a function that takes the arguments and returns the exit code.
"""
READS = "reads"
"""The default of a parser that says what its command reads, for who gives it the name of a file."""
LAST = "last"
"""The newest run of this machine, for who gives a run."""
_INVALID_CHOICE = re.compile(r"argument (?P<of>.*): invalid choice: ")


class Parser(argparse.ArgumentParser):
    """A parser of a command, or of the whole command line."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.set_defaults(parser=self)  # that of the innermost command wins

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line; ends the process where it is wrong, after one line that says so."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = found.parser if isinstance(found.parser, Parser) else self
            hint = did_you_mean(unknown[0], parser._option_string_actions)
            if (reads := getattr(found, READS, "")) and not unknown[0].startswith("-"):
                hint = f"; {reads}"
            parser.error(f"does not take {unknown[0]!r}{hint}")
        return found

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong, and end the process."""
        from pytest_vastgpu.core.text import sanitize

        message = sanitize.line(message)
        sys.stderr.write(f"{self.prog}: {message}{'' if message.endswith('?') else ';'} see `{self.prog} --help`\n")
        sys.exit(ExitCode.USAGE)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            hint = did_you_mean(value, known)
            kind = "command" if isinstance(action, argparse._SubParsersAction) else "value"
            text = f"there is no {kind} {str(value)[:80]!r}{hint}" + ("" if hint else f"; there are {', '.join(known)}")
            raise argparse.ArgumentError(None if kind == "command" else action, text)


def whole_number(text: str) -> int:
    """The value of an option that takes a number of things."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number such as 20")
    return int(text)
