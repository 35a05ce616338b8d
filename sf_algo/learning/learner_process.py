"""The learner process of one policy: a copy of the main process made at its start, where that can be, else
`python -m sf_algo.learning.learner_process <descriptor of its settings>`.

It trains on batches that the main process fills in shared memory, one command at a time, publishes the
weights and answers on a pipe. A process of its own shares no interpreter lock with those who act, and the
kernel shares out the cores between them.
"""

from __future__ import annotations

import base64
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch

from sf_algo.buffers.layout import make_layout
from sf_algo.buffers.shared import SharedBlock
from sf_algo.config.store import config_from_dict
from sf_algo.envs.spec import EnvSpec
from sf_algo.errors import SfAlgoError
from sf_algo.ipc.doorbell import Doorbell
from sf_algo.ipc.messages import Message, MessageWriter, UrgentFirst
from sf_algo.ipc.weights import SharedWeights, WeightArrays
from sf_algo.learner.peers import ALONE, ConnectedPeers, Peers
from sf_algo.learning.build import build_policy_learner
from sf_algo.learning.learner_settings import LearnerSettings
from sf_algo.learning.learners import PolicyChange, change
from sf_algo.learning.remote_memory import SharedBatches, batch_specs, published_weights, weight_specs, write_weights
from sf_algo.learning.state_file import read_state, write_state
from sf_algo.own.additions import NOTHING_ADDED, Additions, additions_at
from sf_algo.plain import cloned
from sf_algo.processes.child_setup import dying_with_parent, name_process, prepare_process
from sf_algo.processes.cuda import LockedBlocks, use_device, wait_for
from sf_algo.processes.threads import keep_freed_memory
from sf_algo.rollout.settings import read_all

PROCESS_NAME = "sf_learner"
"""In `top` and `ps -o comm`; its command line may be the main process's."""
PEERS_TIMEOUT_S = 600.0
"""How long learners of one policy wait for each other."""


class LearnerProcess:
    """One learner, obeying commands. Where a policy has several, all are told the same (but for states, which the first
    one gives), and all answer what changes them."""

    def __init__(self, settings: LearnerSettings, additions: Additions | None) -> None:
        self._settings = settings
        self._additions = additions
        self._messages = MessageWriter(settings.message_fd)
        self._bell = Doorbell(*settings.hub_fds)
        self._device = torch.device(settings.device)
        self._locked = LockedBlocks(self._device)

    def run(self) -> int:
        """Obeys until told to stop. Returns the exit code; what went wrong has been reported by then."""
        try:
            self._build()
            # A state for a checkpoint need not wait for a batch that is not begun yet; a training that is told to
            # end has a few seconds only.
            # Several learners of a policy have to do everything in the same order.
            patient = ("train",) if self._count == 1 else ("train", "load", "change")
            self._commands = UrgentFirst(self._settings.command_fd, patient=patient)
            for command in self._commands:
                if command["kind"] == "stop":
                    return 0
                self._obey(command)
        except BaseException as error:
            self._report(error)
            return 1
        finally:
            self._locked.release()
        return 0

    def _build(self) -> None:
        settings = self._settings
        additions = self._additions or additions_at(settings.app)
        config = config_from_dict(settings.config, additions.facts(settings.config))
        spec: EnvSpec = pickle.loads(base64.b64decode(settings.pickled_spec))
        torch.set_num_threads(settings.num_threads)
        device = self._device
        use_device(device)
        self._count = config.sampling.num_learners
        peers: Peers = ALONE
        if self._count > 1:
            path = f"/proc/self/fd/{settings.rendezvous_fd}"
            peers = ConnectedPeers(settings.rank, self._count, path, device, timeout_s=PEERS_TIMEOUT_S)
        self._learner = build_policy_learner(
            config, spec, device, policy_id=settings.policy_id, run_seed=settings.seed, peers=peers
        )
        model = self._learner.model
        layout = make_layout(
            obs=spec.obs,
            actions=spec.actions,
            rollout=config.rl.rollout,
            rnn_state_width=model.rnn_state_size,
            step_fields=spec.step_fields,
        )
        trajectories = config.rl.batch_size * config.rl.num_batches_per_iteration // config.rl.rollout
        specs = batch_specs(layout, num_buffers=settings.num_buffers, trajectories=trajectories)
        self._batches = SharedBatches(SharedBlock(settings.batch_fd, specs))
        self._weights = SharedWeights.attach(settings.weights_fd, weight_specs(model))
        self._locked.lock([self._batches.block, self._weights.block])

    def _obey(self, command: Message) -> None:
        kind = command["kind"]
        if kind == "train":
            self._train(command)
        elif kind == "state":
            self._send_state()
        elif kind == "load":
            state = read_state(self._settings.state_fd, command["nbytes"])
            self._answer("loaded", lambda: self._learner.load_state_dict(state))
        elif kind == "change":
            self._answer("changed", lambda: self._change(command))
        elif kind == "begin_again":
            self._answer("begun_again", lambda: self._begin_again(command["nbytes"]))
        else:
            raise AssertionError(f"unknown command {kind}")

    def _train(self, command: Message) -> None:
        began = time.monotonic()
        batch = self._batches.batches[command["buffer"]]
        stats = self._learner.train(batch, env_steps=command["env_steps"], meanwhile=self._upload_next)
        if self._settings.rank:
            return
        self._publish()
        self._send(
            {
                "kind": "trained",
                "buffer": command["buffer"],
                "stats": asdict(stats),
                "seconds": time.monotonic() - began,
            }
        )

    def _upload_next(self) -> None:
        coming = self._commands.coming("train")
        if coming is not None:
            self._learner.upload(self._batches.batches[coming["buffer"]])

    def _publish(self) -> None:
        learner = self._learner

        def fill(arrays: WeightArrays) -> None:
            write_weights(learner.model, arrays)
            wait_for(self._device)

        if self._settings.rank == 0:
            self._weights.publish(fill, learner.policy_version)

    def _send_state(self) -> None:
        nbytes = write_state(self._settings.state_fd, cloned(self._learner.state_dict()))
        self._send({"kind": "state", "nbytes": nbytes})

    def _change(self, command: Message) -> None:
        nbytes = command["nbytes"]
        donor = read_state(self._settings.state_fd, nbytes) if nbytes else None
        what = PolicyChange(overrides=command["overrides"], donor=donor, carried=command["carried"])
        change(self._learner, what)

    def _begin_again(self, nbytes: int) -> None:
        """Goes on where the weights were published that another process has learned before it died. The rest is that of
        an older state, if there is one."""
        state = read_state(self._settings.state_fd, nbytes) if nbytes else cloned(self._learner.state_dict())
        self._learner.load_state_dict({**state, **published_weights(self._weights)})

    def _answer(self, kind: str, obey: Callable[[], None]) -> None:
        """Says what came of a command that changes the learner."""
        try:
            obey()
        except SfAlgoError as error:
            self._send({"kind": "refused", "error": type(error).__name__, "message": str(error)})
            return
        self._publish()
        self._send({"kind": kind, "policy_version": self._learner.policy_version})

    def _send(self, message: Message) -> None:
        self._messages.send(message)
        self._bell.ring()

    def _report(self, error: BaseException) -> None:
        known = isinstance(error, SfAlgoError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self._send({"kind": "error", "message": text, "traceback": "" if known else traceback.format_exc()})


def main(argv: list[str] | None = None) -> int:
    """Body of the child process. Its only argument is the descriptor of a file with the settings as JSON."""
    words = sys.argv[1:] if argv is None else argv
    return learn(LearnerSettings.from_json(read_all(int(words[0]))))


def run_forked(text: str, fds: Mapping[int, int], additions: Additions = NOTHING_ADDED) -> int:
    """The same in a forked copy of the main process, which has the user's program already."""
    return learn(LearnerSettings.from_json(text).renumbered(fds), additions)


def learn(settings: LearnerSettings, additions: Additions | None = None) -> int:
    """Everything that this process does from now on. Returns the exit code. Without `additions`, the user's program is
    found by its import path."""
    name_process(PROCESS_NAME)
    with dying_with_parent(settings.lifeline_fd):
        keep_freed_memory()
        prepare_process(inherited_fds=settings.inherited_fds(), trace_fd=settings.trace_fd)
        return LearnerProcess(settings, additions).run()


if __name__ == "__main__":
    sys.exit(main())
