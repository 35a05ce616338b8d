"""The argument parser of every command: typed flags, and one line that names every fault at once."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

from sf_runner.basics.errors import UsageError, did_you_mean


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Names the value of a flag once, whatever the version of Python; breaks no line within a flag."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of printing usage and exiting: one line with every bad value and unknown flag."""

    def __init__(self, module: str, arguments: str, description: str, epilog: str | None = None) -> None:
        super().__init__(
            prog=f"python -m {module}",
            usage=f"%(prog)s {arguments} [options]",
            description=description,
            epilog=epilog,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self._faults: list[str] = []

    def flag(
        self,
        group: Any,
        name: str,
        convert: Callable[[str], Any],
        text: str,
        *,
        aliases: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """Add a flag whose value `convert` makes of its text; the ArgumentTypeErrors of all flags are told together."""

        def checked(value: str) -> Any:
            try:
                return convert(value)
            except argparse.ArgumentTypeError as exc:
                self._faults.append(f"{name}: {exc}")
                return None

        group.add_argument(name, *aliases, type=checked, help=text, **settings)

    def switch(self, group: Any, name: str, text: str) -> None:
        """Add `--name`, or `--name=True|False` as the predecessor wrote it."""
        self.flag(group, name, boolean, text, nargs="?", const=True, default=False, metavar="BOOL")

    def error(self, message: str) -> NoReturn:
        raise UsageError("; ".join([*self._faults, message]))

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        self._faults.clear()
        namespace, unknown = self.parse_known_args(argv)
        names = [text.split("=")[0] for text in unknown if text.startswith("-")]
        if unknown and not names:  # flags may stand between RUN and JOB
            namespace, unknown = self.parse_known_intermixed_args(argv)
        flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        self._faults.extend(f"unknown flag '{name}'.{did_you_mean(name, flags)}" for name in dict.fromkeys(names))
        if unknown and not names:
            self._faults.append(f"unknown argument '{unknown[0]}'")
        if self._faults:
            raise UsageError("; ".join(fault.rstrip(".") for fault in self._faults))
        return namespace


def duration_s(text: str) -> float:
    """Seconds; a suffix s, m, h or d is understood."""
    factors = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, factor = (text[:-1], factors[text[-1]]) if text[-1:] in factors else (text, 1.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no duration; give seconds, or a number with s, m, h or d")
    return value


def memory_mb(text: str) -> int:
    """MiB; a suffix M or G is understood."""
    number, factor = text.rstrip("iB"), 1.0
    if number[-1:].upper() in ("M", "G"):
        number, factor = number[:-1], 1024.0 if number[-1:].upper() == "G" else 1.0
    try:
        value = int(float(number) * factor)
    except (ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no amount of memory; give MiB, or a number with M or G")
    return value


def whole(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {least}")
        return value

    return parse


def boolean(text: str) -> bool:
    """True/False and what people write for them."""
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in ("false", "0", "no", "off"):
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is neither True nor False")


def one_of(*names: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"'{text}' is unknown.{did_you_mean(text, names)}")
        return text

    return parse


def device_list(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("it is empty; --num_gpus=0 uses none")
    return names


T = TypeVar("T")


def section(cls: type[T], values: dict[str, Any], prefix: str) -> T:
    """Take the flags of one backend, those called `prefix` + field, out of `values`."""
    return cls(**{field.name: values.pop(prefix + field.name) for field in fields(cls)})  # type: ignore[arg-type]


def given_flags(options: Any, default: Any, prefix: str) -> list[str]:
    """Flags of a section whose value is not the default."""
    names = [field.name for field in fields(options)]
    return [f"--{prefix}{name}" for name in names if getattr(options, name) != getattr(default, name)]
