"""The page about Doom is true: commands parse, environments, flags, statistics and files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from sf_algo.config import Command, DoomConfig, parse_args
from sf_algo.config.flags import flags_by_spelling
from sf_algo.envs.doom import join_match
from sf_algo.envs.doom.match_env import STATISTICS
from sf_algo.envs.doom.scenarios import SCENARIOS
from sf_algo.own.additions import NOTHING_ADDED

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "doom.md").read_text()
MODULES = {command.value: command for command in Command}
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_and_parse(line: str) -> None:
    python, dash_m, module, *argv = shlex.split(line)
    assert (python, dash_m) == ("python", "-m")
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()
    if module in MODULES:
        assert parse_args(argv, MODULES[module], NOTHING_ADDED).notes == ()


def test_the_command_that_joins_a_match_parses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    (line,) = [line for line in COMMANDS if "join_match" in line]
    assert join_match.main(shlex.split(line)[3:]) == 2
    assert "there is no display to play on" in capsys.readouterr().err


def test_every_environment_is_named() -> None:
    named = set(re.findall(r"`(doom_[a-z0-9_]+)`", PAGE))
    for base, suffix in re.findall(r"`(doom_[a-z_]+)` \(`(_[a-z_]+)`\)", PAGE):
        named.add(base + suffix)
    assert named >= set(SCENARIOS)


def test_flags_statistics_and_files_exist() -> None:
    flags = set(re.findall(r"--([a-z_0-9]+)", PAGE)) - {"host", "peer_python"}  # of join_match and the benchmark
    assert flags <= set(flags_by_spelling())
    assert flags >= {"num_agents", "num_bots", "start_bot_difficulty", "timelimit"} <= set(vars(DoomConfig()))
    table = PAGE[PAGE.index("| statistic of an episode") :].split("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) == set(STATISTICS) - {"true_reward"}
    for path in re.findall(r"`(sf_algo/[a-z_/]+\.py)`", PAGE):
        assert (ROOT / path).is_file()
