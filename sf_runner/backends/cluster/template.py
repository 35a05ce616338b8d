"""The job template of NGC: parsed once, rendered for every attempt. Pure.

A template is one command as a person would type it. It is taken apart with the quoting rules of a POSIX shell, but no
shell ever sees it and nothing in it is expanded; the placeholders are filled in afterwards, into single arguments. So
no text of an experiment can break out of the argument it belongs to.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from sf_runner.backends.cluster.api import SubmitRequest
from sf_runner.basics.errors import UsageError, did_you_mean

PLACEHOLDERS: Mapping[str, Callable[[SubmitRequest], str]] = {
    "name": lambda job: job.name,
    "dns_name": lambda job: job.dns_name,
    "experiment_cmd": lambda job: job.command,
    "experiment_cmd_quoted": lambda job: shlex.quote(job.command),
    "experiment_cmd_in_double_quotes": lambda job: re.sub(r'[\\"$`]', r"\\\g<0>", job.command),
    "experiment_cmd_in_single_quotes": lambda job: job.command.replace("'", "'\"'\"'"),
    "experiment_cmd_json": lambda job: json.dumps(job.command),
    "run": lambda job: job.run,
    "job": lambda job: job.job,
    "experiment": lambda job: job.job.rpartition("/")[2],
    "attempt": lambda job: str(job.attempt),
    "run_prefix": lambda job: job.run_prefix,
}
"""What can be written into a job template -> what it stands for."""
_ENV = "env."

_HOLE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_PIECES = re.compile(
    r"""(?P<blank>[ \t\r\n]+)
    | (?P<line_break>\\[ \t]*\n)            # blanks after the backslash are never meant
    | (?P<hole>\{\{[^{}]*\}\})
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | \\(?P<escaped>.?)
    | (?P<plain>[^\ \t\r\n\\{'"|&;<>()$`~]+)
    | (?P<special>.)""",
    re.VERBOSE | re.DOTALL,
)
_IN_DOUBLE_QUOTES = re.compile(r'\\(?P<escaped>[\\"$`\n])|\\.|(?P<expansion>[$`])', re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


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

    @property
    def program(self) -> str:
        """Its first word; empty where that depends on placeholders."""
        (first, *more) = self.words[0]
        return first if isinstance(first, str) and not more else ""

    def render(self, job: SubmitRequest) -> tuple[str, ...]:
        """The arguments. A word that is nothing but a bare `{{ experiment_cmd }}` becomes the words of the command."""
        argv: list[str] = []
        for word in self.words:
            if word == (Hole(name="experiment_cmd", bare=True),):
                argv.extend(job.argv)
            else:
                argv.append("".join(part if isinstance(part, str) else PLACEHOLDERS[part.name](job) for part in word))
        return tuple(argv)


def parse_template(text: str, source: str, environ: Mapping[str, str]) -> Template:
    """Take a command apart. `{{ env.NAME }}` is filled in at once.

    Lines at the beginning that start with `#` are comments. UsageError in one line for what cannot be meant.
    """
    lines = text.replace("\r\n", "\n").splitlines(keepends=True)
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        lines.pop(0)
    words = tuple(_Parser("".join(lines), source, environ).words())
    if not words:
        raise UsageError(f"{source} is empty; it has to hold the command that submits one job")
    first = "".join(part for part in words[0] if isinstance(part, str))
    if _ASSIGNMENT.match(first):
        raise UsageError(f"{source} begins with '{first}'; begin with: env {first} ...")
    return Template(words=words, source=source)


class _Parser:
    """POSIX quoting; every expansion that a shell would make is refused with what to write instead."""

    def __init__(self, text: str, source: str, environ: Mapping[str, str]) -> None:
        self._text = text
        self._source = source
        self._environ = environ

    def words(self) -> Iterator[Word]:
        word: list[str | Hole] | None = None
        for match in _PIECES.finditer(self._text):
            kind, piece, at = str(match.lastgroup), match[str(match.lastgroup)], match.start(str(match.lastgroup))
            if kind == "blank":
                if word is not None:
                    yield _merged(word)
                word = None
            elif kind == "hole":
                word = [*(word or ()), self._hole(piece, at, bare=True)]
            elif kind in ("single", "double"):
                word = [*(word or ()), *self._quoted(kind, piece, at)]
            elif kind != "line_break":
                if kind == "special":
                    self._check_special(piece, at, begins_word=word is None)
                word = [*(word or ()), piece]
        if word is not None:
            yield _merged(word)

    def _check_special(self, char: str, at: int, *, begins_word: bool) -> None:
        if char in "'\"":
            raise self._fault(f"the quote {char} is not closed", at)
        if char in "|&;<>()":
            raise self._fault(f"no shell runs it, so '{char}' means nothing; put it in quotes", at)
        if char in "$`" or (char == "~" and begins_word):
            raise self._expansion(char, at)

    def _quoted(self, kind: str, text: str, at: int) -> Iterator[str | Hole]:
        """What stands between two quotes, the first character at `at`."""
        end = 0
        for match in _HOLE.finditer(text):
            yield self._literal(kind, text[end : match.start()], at + end)
            yield self._hole(match[0], at + match.start(), bare=False)
            end = match.end()
        yield self._literal(kind, text[end:], at + end)

    def _literal(self, kind: str, text: str, at: int) -> str:
        if kind == "single":
            return text

        def plain(match: re.Match[str]) -> str:
            if match["expansion"]:
                raise self._expansion(match["expansion"], at + match.start())
            return (match["escaped"] or match[0]).replace("\n", "")

        return _IN_DOUBLE_QUOTES.sub(plain, text)

    def _hole(self, text: str, at: int, *, bare: bool) -> str | Hole:
        name = text[2:-2].strip()
        if name.startswith(_ENV):
            variable = name[len(_ENV) :]
            if variable not in self._environ:
                raise self._fault(f"the environment variable {variable} of '{text}' is not set here", at)
            return self._environ[variable]
        if name not in PLACEHOLDERS:
            raise self._fault(f"unknown placeholder '{text}'.{did_you_mean(name, PLACEHOLDERS)}".rstrip("."), at)
        return Hole(name=name, bare=bare)

    def _expansion(self, char: str, at: int) -> UsageError:
        what = "nothing is expanded here"
        if char == "~":
            return self._fault(f"{what}; write {{{{ env.HOME }}}} instead of ~", at)
        found = re.compile(r"\$\{?([A-Za-z_]\w*)").match(self._text, at)
        return self._fault(
            f"{what}; write \\{char} in double quotes where the job is to expand '{char}', "
            f"{{{{ env.{found[1] if found else 'NAME'} }}}} for a value that this machine has",
            at,
        )

    def _fault(self, what: str, at: int) -> UsageError:
        return UsageError(f"{self._source}, line {self._text.count(chr(10), 0, at) + 1} of the command: {what}")


def _merged(word: Iterable[str | Hole]) -> Word:
    """Texts that follow each other as one."""
    merged: list[str | Hole] = []
    for part in word:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part or not merged:
            merged.append(part)
    return tuple(merged)


def check_job_template(template: Template) -> None:
    """UsageError when jobs made from it would do nothing, or could not be found again."""
    if not any(hole.startswith("experiment_cmd") for hole in template.holes):
        raise UsageError(
            f"{template.source} has no {{{{ experiment_cmd }}}}; put it where the command of the experiment belongs"
        )
    if not template.holes & {"name", "dns_name"}:
        raise UsageError(
            f"{template.source} has no {{{{ name }}}}; put it where the cluster takes the job's name "
            "(--name): a job is found again by it"
        )
