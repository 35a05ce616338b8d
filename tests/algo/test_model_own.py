"""Cores, decoders and whole networks of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sf_algo.errors import ModelError
from sf_algo.model.actor_critic import TowerActorCritic, make_actor_critic
from sf_algo.model.base import ActorCritic
from tests.algo.model_cases import env_spec, model_config, random_obs

HERE = "tests.algo.own_networks"
SPEC = env_spec()
T, B = 6, 3


@dataclass(frozen=True)
class Section:
    width: int = 7


def make(**flags: Any) -> ActorCritic:
    return make_actor_critic(model_config(**flags), SPEC, seed=3, own={"section": Section()})


@pytest.mark.parametrize("flags", [{"core_custom": f"{HERE}:GruCore"}, {"actor_critic_custom": f"{HERE}:Network"}])
def test_a_sequence_is_what_its_steps_are(flags: dict[str, str]) -> None:
    """With the state cut where new episodes begin."""
    model = make(**flags)
    rows = [random_obs(SPEC, B, seed=t) for t in range(T)]
    reset_after = torch.zeros(T, B, dtype=torch.bool)
    reset_after[1, 0] = reset_after[3, 2] = reset_after[T - 1, 1] = True
    states = torch.rand(B, model.rnn_state_size)
    assert model.rnn_state_size > 0
    together = model.evaluate_sequence(
        {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, states, reset_after
    )
    for t in range(T):
        out = model.act(rows[t], states)
        torch.testing.assert_close(together.action_params[t], out.action_params)
        torch.testing.assert_close(together.values[t], out.values)
        states = out.rnn_states * (~reset_after[t]).float()[:, None]
    torch.testing.assert_close(together.final_states, states)


def test_parts_without_a_state() -> None:
    model = make(core_custom=f"{HERE}:Squeeze", decoder_custom=f"{HERE}:Squeeze")
    assert isinstance(model, TowerActorCritic)
    assert (model.rnn_state_size, model.towers[0].out_size) == (0, 7)
    whole = make(actor_critic_custom=f"{HERE}:Stateless")
    for one in (model, whole):
        obs = random_obs(SPEC, 4)
        acted = one.act(obs, torch.zeros(4, 0))
        seen = {name: x.view(2, 2, *x.shape[1:]) for name, x in obs.items()}
        trained = one.evaluate_sequence(seen, torch.zeros(2, 0), torch.zeros(2, 2, dtype=torch.bool))
        torch.testing.assert_close(trained.values.flatten(), acted.values)
        assert trained.values.requires_grad


def test_parameters_are_filled_by_name_and_by_place() -> None:
    model = make(encoder_custom=f"{HERE}:make_mixed")
    assert model.act(random_obs(SPEC, 2), torch.zeros(2, 0)).values.shape == (2,)


def test_they_begin_like_the_rest_of_the_network_and_with_the_seed() -> None:
    model = make(core_custom=f"{HERE}:Squeeze")
    weight = model.get_parameter("towers.0.core.core.layer.weight")
    torch.testing.assert_close(weight @ weight.t(), torch.eye(7), rtol=1e-4, atol=1e-4)
    again = make(core_custom=f"{HERE}:Squeeze")
    assert torch.equal(weight, again.get_parameter("towers.0.core.core.layer.weight"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"core_custom": "no_such_module:Core"}, "--core_custom=no_such_module:Core: cannot be imported"),
        ({"core_custom": f"{HERE}:Grucore"}, "has no Grucore; did you mean GruCore"),
        ({"decoder_custom": f"{HERE}:raising"}, "--decoder_custom=.*RuntimeError: no luck today; the traceback"),
        ({"core_custom": "torch.nn:Identity"}, "integer attribute out_size.* and an integer attribute state_size"),
        ({"actor_critic_custom": f"{HERE}:torch"}, "nothing that can be called"),
    ],
)
def test_what_is_wrong_is_told_with_the_flag(flags: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make(**flags)


def test_a_network_that_returns_other_shapes() -> None:
    with pytest.raises(ModelError, match=r"returned .*\(2, 1\), \(2, 0\) instead of .*\(2,\), \(2, 0\)"):
        make(actor_critic_custom=f"{HERE}:WrongShapes").act(random_obs(SPEC, 2), torch.zeros(2, 0))
