"""Command-line flags of a verb: parsed by tyro; what is wrong is one line with a suggestion."""

import contextlib
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar, get_args, get_type_hints

import tyro

from vp_agent.errors import ConfigError, UnknownNameError, VPAgentError, closest

Settings = TypeVar("Settings")

# Without it a flag that may be left out says {None}|{[STR [STR ...]]} in the help.
CONFIG = (tyro.conf.DisallowNone,)
# What tyro and Python say of a value that does not fit, and what we say.
_WORDS = {
    r"Error parsing (\S+): invalid literal for int.*?: (.*)": r"\1 takes a whole number, not \2",
    r"Error parsing (\S+): could not convert .* float: (.*)": r"\1 takes a number, not \2",
    r"Error parsing (\S+): no .* \{(.*?)\} .*? from \[(.*?)\]\. .*": r"\1 takes \2, not \3",
    r"Missing value for argument '(\S+)'\. Expected 1 values\.": r"\1 needs a value",
    r"Missing value for argument '(\S+)'\. Expected (\d+) values\.": r"\1 needs \2 values",
}
_POSITIONAL = get_args(tyro.conf.Positional[int])[1]


class FlagError(ConfigError):
    """Flags that are missing, or values that do not fit them."""


def parse(settings: type[Settings], arguments: Sequence[str], *, prog: str) -> Settings:
    """The settings that the arguments say; `--help` prints and exits.

    Raises:
        VPAgentError: a flag is unknown or missing, or a value does not fit.
    """
    check_names(settings, arguments, prog=prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(settings, args=arguments, prog=prog, config=CONFIG)
    except SystemExit as stop:
        if not stop.code:
            raise
        ours = next((e for e in _before(stop) if isinstance(e, VPAgentError)), None)
        what = _with_suggestion(_plainly(_in_one_line(said.getvalue())))
        raise ours or FlagError(f"{what} (all: {prog} --help)") from None


def check_names(settings: type, arguments: Sequence[str], *, prog: str) -> None:
    """Refuses flags that there are not, and a lack of those that there must be."""
    fields = {_flag(field.name): field for field in _options(settings)}
    known = {*fields, "--help"}
    known |= {f"--no-{name[2:]}" for name, field in fields.items() if field.type is bool}
    given = [word.split("=", 1)[0] for word in arguments if word.startswith("--")]
    names = [name.replace("_", "-") for name in given]
    for name in names:
        if name not in known and name.split(".", 1)[0] not in known:
            raise UnknownNameError(
                f"{prog} has no flag {name!r}{closest(name, known)} (all: {prog} --help)"
            )
    missing = [name for name, field in fields.items() if _required(field) and name not in names]
    if missing and not {"--help", "-h"} & {*names, *arguments}:
        raise FlagError(f"{prog} needs {' and '.join(missing)} (see {prog} --help)")


def _options(settings: type) -> Iterator[dataclasses.Field]:
    """The fields that are flags; the others are told by their place."""
    hints = get_type_hints(settings, include_extras=True)  # of a positional: Annotated
    for field in dataclasses.fields(settings):
        if _POSITIONAL not in get_args(hints[field.name]):
            yield field


def _required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _before(error: BaseException | None) -> Iterator[BaseException]:
    """What led to an error: tyro turns a ValueError of `__post_init__` into an exit."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _plainly(what: str) -> str:
    """A value that does not fit, in words about the flag."""
    for theirs, ours in _WORDS.items():
        what = re.sub(f"^{theirs}$", ours, what)
    return what


def _with_suggestion(what: str) -> str:
    """A wrong choice with the nearest right one."""
    choice = re.match(r"invalid choice '(.*?)' for argument .* one of \((.*)\)", what)
    if choice is None:
        return what
    return what.rstrip(".") + closest(choice[1], re.findall(r"'(.*?)'", choice[2]))


def _in_one_line(box: str) -> str:
    """The first part of what tyro draws in a box, without box and colours.

    A rule stands below the title, in ASCII a line of its own, and between the parts.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    parts = re.split(r"^.*[─-]{5,}.*$", plain, flags=re.MULTILINE)
    lines = (line.strip("│╭╮╰╯ ") for line in parts[min(1, len(parts) - 1)].splitlines())
    return " ".join(filter(None, lines))
