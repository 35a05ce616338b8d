"""A match behind the `Env` protocol: agents, each in an engine of its own, and bots.

Shape letters: A agents, P players (agents, people, bots).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sf_algo.envs.doom import lockstep
from sf_algo.envs.doom.bots import BotDifficulty, bots_file
from sf_algo.envs.doom.engine import DoomEngine
from sf_algo.envs.doom.lockstep import Lockstep, Played, SingleEngine
from sf_algo.envs.doom.match import MatchRules, Standing, Tally, standing
from sf_algo.envs.doom.player import Player
from sf_algo.envs.doom.ports import PortLease, lease_port
from sf_algo.envs.doom.scenarios import DoomScenario
from sf_algo.envs.doom.start_lock import match_place
from sf_algo.envs.spec import ObsRow, StepResult
from sf_algo.errors import SfAlgoError

MakeEngine = Callable[[int, str], DoomEngine]
"""Agent, further arguments of its process -> an engine that is not started yet."""

STATISTICS = (
    "true_reward",
    "frags",
    "kills",
    "deaths",
    "kdr",
    "final_place",
    "leader_gap",
    "won",
    "hits",
    "damage",
    "bot_difficulty",
    "match_score",
)
"""Of every agent's episode: `frags` are kills less suicides; `bot_difficulty` only where there are bots, `match_score`
only where agents play each other."""

_BEGIN_TRIES = 5
_JOINING_LIMIT_S = 600
"""How long people may take to join."""


class MatchEnv:
    """Engines start with the first reset, so asking for `spec` costs nothing.

    An agent that is dead is not active until it has respawned. All agents are truncated when the time is up: the
    final observation is real. The episode's statistics are `STATISTICS`.
    """

    def __init__(
        self,
        scenario: DoomScenario,
        rules: MatchRules,
        make_engine: MakeEngine,
        *,
        frameskip: int,
        out_hw: tuple[int, int],
        start_difficulty: int | None = None,
        port: int | None = None,
        record_to: Path | None = None,
    ) -> None:
        """`port`: for people to join; None: any."""
        self._scenario, self._rules = scenario, rules
        self._make_engine = make_engine
        self._frameskip = frameskip
        self._fixed_port = port
        self._record_to = record_to
        probe = make_engine(0, "")
        agents = rules.agents
        self._players = [Player(scenario, probe, out_hw=out_hw) for _ in range(agents)]
        self.spec = self._players[0].spec(frameskip=frameskip, agents=agents)
        limits = [limit for limit in (probe.frame_limit, scenario.frame_limit, rules.frame_limit) if limit]
        self._frame_limit = min(limits, default=1 << 62)
        self._difficulty = BotDifficulty(start_difficulty)
        self._tally = Tally(agents)
        self._rng = np.random.default_rng()
        self._match: Lockstep | SingleEngine | None = None
        self._lease: PortLease | None = None
        self._episodes = 0
        self._frames_left = 0
        self._tics = 0  # of the step that was begun
        self._rewards = np.zeros(agents, np.float32)
        self._terminated, self._truncated = np.zeros(agents, np.bool_), np.zeros(agents, np.bool_)
        self._active = np.ones(agents, np.bool_)
        self._dead = np.zeros(agents, np.bool_)
        self._result = StepResult(self._rewards, self._terminated, self._truncated, self._active, None)

    def reset(self, out: Sequence[ObsRow], *, seed: int | None = None) -> None:
        """Raises EnvCrashedError where the match cannot be started or goes on no more."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        match = self._match or self._open()
        with self._ended_by_failure():
            for _ in range(_BEGIN_TRIES):
                begun = match.new_episode(int(self._rng.integers(1 << 32)), self._recordings())
                if not any(player.is_dead for player in begun):
                    break  # else two were put on the same spot, which only one of them survived
            self._episodes += 1
            if self._rules.bots:
                match.host.command("removebots")
                for bot in self._difficulty.draw(self._rules.bots, self._rng):
                    match.host.command(f"addbot {bot}")
        self._frames_left, self._tics = self._frame_limit, 0
        self._dead[:] = [player.is_dead for player in begun]
        self._tally.reset()
        for player, first, row in zip(self._players, begun, out, strict=True):
            player.begin(first.state, row)

    def _open(self) -> Lockstep | SingleEngine:
        """Start a match. Where the port was taken in the last moment, whoever made this environment makes another."""
        rules = self._rules
        port = 0
        if rules.engines > 1:
            self._lease = lease_port(self._fixed_port)
            port = self._lease.port
        match = self._match = self._assemble(port)
        with self._ended_by_failure(), match_place(rules.engines), bots_file() as bots:
            match.host.add_args(f"+viz_bots_path {bots}")
            if rules.humans:
                _tell_how_to_join(self._scenario, rules, port)
            match.start(limit_s=_JOINING_LIMIT_S if rules.humans else lockstep.START_LIMIT_S)
        return match

    def _assemble(self, port: int) -> Lockstep | SingleEngine:
        rules = self._rules
        args = [rules.host_args(port)] + [rules.join_args(port)] * (rules.agents - 1)
        names = [f"+name agent{agent}" for agent in range(rules.agents)]
        engines = [self._make_engine(a, f"{args[a]} {names[a]}") for a in range(rules.agents)]
        return SingleEngine(engines[0]) if rules.engines == 1 else Lockstep(engines)

    def begin_step(self, actions: NDArray[np.float32]) -> None:
        """As `StepsAhead`: engines wait for each other more than they work, so matches are best played side by side."""
        assert self._match is not None, "step before reset"
        self._tics = min(self._frameskip, self._frames_left)
        buttons = [player.buttons(row) for player, row in zip(self._players, actions, strict=True)]
        self._match.begin_step(buttons, self._tics)

    def step(self, actions: NDArray[np.float32], out: Sequence[ObsRow]) -> StepResult:
        """Raises EnvCrashedError as soon as one of the engines is found dead, stopped or silent."""
        if not self._tics:
            self.begin_step(actions)
        assert self._match is not None, "step before reset"
        tics, self._tics = self._tics, 0
        with self._ended_by_failure():
            played = self._match.end_step()
        self._frames_left -= tics
        over = any(p.state is None for p in played)  # the map ended the match by itself
        truncated = not over and self._frames_left <= 0
        self._active[:] = ~self._dead
        for a, (player, p, row) in enumerate(zip(self._players, played, out, strict=True)):
            self._rewards[a] = player.step(p.state, p.reward, row, ended=over or truncated)
            self._dead[a] = p.is_dead
        self._tally.step(np.array([player.count("FRAGCOUNT") for player in self._players]))
        self._terminated[:], self._truncated[:] = over, truncated
        return self._result._replace(episode=self._finish(played)) if over or truncated else self._result

    def _finish(self, played: Sequence[Played]) -> dict[str, Any]:
        """The statistics of the match that just ended; bots take note of it."""
        assert self._match is not None
        with self._ended_by_failure():
            own, frags_P = self._match.frags()
        standings = [standing(frags_P, player) for player in own]
        stats = self._stats(standings)
        if self._rules.bots:
            stats["bot_difficulty"] = float(self._difficulty.value)
            self._difficulty.match_ended(agent_won=any(s.place == 1 for s in standings))
        return stats

    def _stats(self, standings: Sequence[Standing]) -> dict[str, Any]:
        """`STATISTICS` per agent [A], without the bots' difficulty."""

        def counts(name: str) -> NDArray[np.float64]:
            return np.array([player.count(name) for player in self._players])

        frags, deaths, won = counts("FRAGCOUNT"), counts("DEATHCOUNT"), np.array([float(s.won) for s in standings])
        scenario = np.array([player.true_reward for player in self._players])
        kinds = {"scenario": scenario, "frags": frags, "win": won}
        stats: dict[str, Any] = {
            "true_reward": kinds[self._rules.true_reward],
            "frags": frags,
            "kills": self._tally.kills_A.copy(),
            "deaths": deaths,
            "kdr": self._tally.kills_A / np.maximum(deaths, 1.0),
            "final_place": np.array([float(s.place) for s in standings]),
            "leader_gap": np.array([s.leader_gap for s in standings]),
            "won": won,
            "hits": counts("HITCOUNT"),
            "damage": counts("DAMAGECOUNT"),
        }
        if self._rules.agents > 1:
            stats["match_score"] = frags
        return stats

    def shaping(self) -> Mapping[str, Any]:
        """As `SupportsShaping`: what is added to the scenario's own rewards, per unit of change."""
        return self._players[0].shaping()

    def set_shaping(self, agent: int, values: Mapping[str, Any]) -> None:
        """As `SupportsShaping`."""
        self._players[agent].set_shaping(values)

    def _recordings(self) -> list[Path | None]:
        if self._record_to is None:
            return [None] * self._rules.agents
        self._record_to.mkdir(parents=True, exist_ok=True)
        folder = self._record_to.absolute()
        names = [f"e{self._episodes:03d}" + (f"_a{a}" if a else "") for a in range(self._rules.agents)]
        return [folder / f"{name}.lmp" for name in names]

    def render(self) -> NDArray[np.uint8] | None:
        """The screens of all agents side by side [H, A * W, 3], larger than the observations."""
        return np.concatenate([player.render() for player in self._players], axis=1)

    @contextmanager
    def _ended_by_failure(self) -> Iterator[None]:
        """A match one of whose engines failed is over: nothing of it is left behind, the next reset begins another."""
        try:
            yield
        except SfAlgoError:
            self.close()
            raise

    def _release_port(self) -> None:
        if self._lease:
            self._lease.close()
            self._lease = None

    def close(self) -> None:
        """Ends all engines of the match."""
        if self._match:
            self._match.close()
            self._match = None
        self._release_port()


def _tell_how_to_join(scenario: DoomScenario, rules: MatchRules, port: int) -> None:
    """People are waited for: says on stderr for whom, and what they type."""
    who = "a person" if rules.humans == 1 else f"{rules.humans} people"
    command = f"python -m sf_algo.envs.doom.join_match --env={scenario.name} --match_port={port}"
    ends = f"for at most {_JOINING_LIMIT_S // 60} minutes (Ctrl-C twice ends it)"
    print(f"waiting for {who} to join {ends}: {command}", file=sys.stderr, flush=True)
