"""A program of one's own around the trainer: environments, flags, networks, and the commands that belong to it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from sf_algo import enjoy_appo, league, run_algorithm, train_appo
from sf_algo.own.additions import Additions
from sf_algo.processes.threads import end_where_threads_stay

_COMMANDS = ("train", "enjoy", "league", "dummy")


@dataclass(frozen=True)
class App(Additions):
    """What a program adds to the trainer, as one value of its module:

        app = App("swarm.train:app", envs={"swarm": make_env}, sections={"swarm": Swarm})

        if __name__ == "__main__":
            sys.exit(app.main())

    There is no registry. The value exists before processes are forked, so closures and shared arrays in it are in every
    process; its import path is stored with an experiment.
    """

    def main(self, argv: Sequence[str] | None = None) -> int:
        """`[train|enjoy|league|dummy] --flags`: trains (the default), watches or evaluates policies, lets all
        checkpoints play against each other, or measures how fast the environments step with random actions. `argv`:
        without the program's name, by default the process's. Returns the exit code; faults of the user's making are one
        line each on stderr.

        Without `argv` this is the program: threads that an environment has left behind, for which the interpreter would
        wait for ever, do not keep it; where there are any, the process ends here, with the exit code.
        """
        if argv is not None:
            return self._run(list(argv))
        before = set(threading.enumerate())
        code = self._run(sys.argv[1:])
        end_where_threads_stay(code, before)
        return code

    def _run(self, words: list[str]) -> int:
        command = words.pop(0) if words and not words[0].startswith("-") else "train"
        if command == "train":
            return train_appo.main(words, self)
        if command == "enjoy":
            return enjoy_appo.main(words, self)
        if command == "league":
            return league.main(words, self)
        if command == "dummy":
            return run_algorithm.main(["--algo=DUMMY_SAMPLER", *words], self)
        print(f"error: {command!r} is no command of this program; it has {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
