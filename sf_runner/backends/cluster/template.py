"""The job template of NGC: parsed once, rendered for every attempt. Pure.

A template is one command as a person would type it. It is taken apart with the quoting rules of a POSIX shell, but no
shell ever sees it and nothing in it is expanded; the placeholders are filled in afterwards, into single arguments. So
no text of an experiment can break out of the argument it belongs to.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sf_runner.backends.cluster.api import SubmitRequest
from sf_runner.basics.errors import UsageError, did_you_mean

NAMES = ("name", "dns_name")
"""Placeholders by which a job is found again in the cluster's list."""
COMMANDS = (
    "experiment_cmd",
    "experiment_cmd_quoted",
    "experiment_cmd_in_double_quotes",
    "experiment_cmd_in_single_quotes",
    "experiment_cmd_json",
)
OTHERS = ("run", "job", "experiment", "attempt", "run_prefix")
_ENV = "env."

_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_OPERATORS = "|&;<>()"
_BLANKS = " \t\r\n"
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_IN_DOUBLE_QUOTES = re.compile(r'[\\"$`]')
_LINE_BREAK = re.compile(r"\\[ \t]*\n")


@dataclass(frozen=True, kw_only=True)
class Hole:
    """A placeholder. `bare`: it stands outside of all quotes."""

    name: str
    bare: bool


Word = tuple[str | Hole, ...]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A command with holes. `source`: where it is from, for messages."""

    words: tuple[Word, ...]
    source: str

    @property
    def holes(self) -> frozenset[str]:
        """Names of all placeholders in it."""
        return frozenset(part.name for word in self.words for part in word if isinstance(part, Hole))

    def render(self, values: Mapping[str, str], command: Sequence[str] = ()) -> tuple[str, ...]:
        """The arguments. A word that is nothing but a bare `{{ experiment_cmd }}` becomes the words of `command`."""
        argv: list[str] = []
        for word in self.words:
            (first, *more) = word or ("",)
            if command and not more and first == Hole(name="experiment_cmd", bare=True):
                argv.extend(command)
            else:
                argv.append("".join(part if isinstance(part, str) else values[part.name] for part in word))
        return tuple(argv)


def parse_template(text: str, source: str, known: Iterable[str], environ: Mapping[str, str]) -> Template:
    """Take a command apart. `known`: placeholders that may occur; `{{ env.NAME }}` is filled in at once.

    Lines at the beginning that start with `#` are comments. UsageError in one line for what cannot be meant.
    """
    lines = text.replace("\r\n", "\n").splitlines(keepends=True)
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        lines.pop(0)
    words = _Parser("".join(lines), source, tuple(known), environ).words()
    if not words:
        raise UsageError(f"{source} is empty; it has to hold the command that submits one job")
    first = "".join(part for part in words[0] if isinstance(part, str))
    if _ASSIGNMENT.match(first):
        raise UsageError(f"{source} begins with '{first}'; begin with: env {first} ...")
    return Template(words=tuple(words), source=source)


class _Parser:
    """POSIX quoting; every expansion that a shell would make is refused with what to write instead."""

    def __init__(self, text: str, source: str, known: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._text = text
        self._at = 0
        self._source = source
        self._known = known
        self._environ = environ
        self._word: list[str | Hole] | None = None

    def words(self) -> list[Word]:
        found: list[Word] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in _BLANKS:
                found.extend(self._end_word())
                self._at += 1
            elif char == "'":
                self._quoted("'")
            elif char == '"':
                self._quoted('"')
            else:
                self._bare(char)
        found.extend(self._end_word())
        return found

    def _end_word(self) -> list[Word]:
        word, self._word = self._word, None
        return [] if word is None else [tuple(word)]

    def _add(self, part: str | Hole) -> None:
        word = self._word = self._word or []
        if isinstance(part, str) and word and isinstance(word[-1], str):
            word[-1] += part
        elif part or not word:
            word.append(part)

    def _bare(self, char: str) -> None:
        if self._hole(bare=True):
            return
        if char == "\\":
            if line_break := _LINE_BREAK.match(self._text, self._at):  # blanks after the backslash are never meant
                self._at = line_break.end()
                return
            self._add(self._text[self._at + 1 : self._at + 2])
            self._at += 2
            return
        if char in _OPERATORS:
            raise self._fault(f"no shell runs it, so '{char}' means nothing; put it in quotes")
        if char in "$`" or (char == "~" and self._word is None):
            raise self._expansion(char)
        self._add(char)
        self._at += 1

    def _quoted(self, quote: str) -> None:
        begin = self._at
        self._add("")
        self._at += 1
        while (char := self._text[self._at : self._at + 1]) != quote:
            if not char:
                self._at = begin
                raise self._fault(f"the quote {quote} is not closed")
            if self._hole(bare=False):
                continue
            following = self._text[self._at + 1 : self._at + 2]
            if quote == '"' and char == "\\" and following and following in '\\"$`\n':
                self._add("" if following == "\n" else following)
                self._at += 2
                continue
            if quote == '"' and char in "$`":
                raise self._expansion(char)
            self._add(char)
            self._at += 1
        self._at += 1

    def _hole(self, *, bare: bool) -> bool:
        match = _PLACEHOLDER.match(self._text, self._at)
        if match is None:
            return False
        name = match[1]
        if name.startswith(_ENV):
            variable = name[len(_ENV) :]
            if variable not in self._environ:
                raise self._fault(f"the environment variable {variable} of '{match[0]}' is not set here")
            self._add(self._environ[variable])
        elif name in self._known:
            self._add(Hole(name=name, bare=bare))
        else:
            raise self._fault(f"unknown placeholder '{match[0]}'.{did_you_mean(name, self._known)}".rstrip("."))
        self._at = match.end()
        return True

    def _expansion(self, char: str) -> UsageError:
        what = "nothing is expanded here"
        if char == "~":
            return self._fault(f"{what}; write {{{{ env.HOME }}}} instead of ~")
        rest = re.match(r"\$\{?([A-Za-z_]\w*)", self._text[self._at :])
        variable = rest[1] if rest else "NAME"
        return self._fault(
            f"{what}; write \\{char} in double quotes where the job is to expand '{char}', "
            f"{{{{ env.{variable} }}}} for a value that this machine has"
        )

    def _fault(self, what: str) -> UsageError:
        line = self._text.count("\n", 0, self._at) + 1
        return UsageError(f"{self._source}, line {line} of the command: {what}")


def check_job_template(template: Template) -> None:
    """UsageError when jobs made from it would do nothing, or could not be found again."""
    if not template.holes.intersection(COMMANDS):
        raise UsageError(
            f"{template.source} has no {{{{ experiment_cmd }}}}; put it where the command of the experiment belongs"
        )
    if not template.holes.intersection(NAMES):
        raise UsageError(
            f"{template.source} has no {{{{ name }}}}; put it where the cluster takes the job's name "
            "(--name): a job is found again by it"
        )


def job_values(job: SubmitRequest) -> dict[str, str]:
    """What the placeholders of a job template stand for."""
    text = job.command
    return {
        "name": job.name,
        "dns_name": job.dns_name,
        "experiment_cmd": text,
        "experiment_cmd_quoted": shlex.quote(text),
        "experiment_cmd_in_double_quotes": _IN_DOUBLE_QUOTES.sub(r"\\\g<0>", text),
        "experiment_cmd_in_single_quotes": text.replace("'", "'\"'\"'"),
        "experiment_cmd_json": json.dumps(text),
        "run": job.run,
        "job": job.job,
        "experiment": job.job.rpartition("/")[2],
        "attempt": str(job.attempt),
        "run_prefix": job.run_prefix,
    }
