"""What people type for a job."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sf_runner.basics.errors import UsageError
from sf_runner.basics.job_names import resolve

JOBS = [
    "ppo_/00_ppo_see_0",
    "ppo_/01_ppo_see_1",
    "ppo_/10_ppo_see_10",
    "sac_v2/00_sac_see_0",
    "sac_v2/02_sac_see_2",
    "same_a/05_twin",
    "same_b/05_twin",
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["ppo_/00_ppo_see_0"], [0]),
        (["01_ppo_see_1"], [1]),
        (["10"], [2]),
        (["1"], [1]),
        (["0002"], [4]),
        (["*see_0"], [0, 3]),
        (["ppo_/*"], [0, 1, 2]),
        (["*"], [0, 1, 2, 3, 4, 5, 6]),
        (["0[01]_ppo*"], [0, 1]),
        (["??_sac*"], [3, 4]),
        (["10", "ppo_/*", "10"], [2, 0, 1]),
        (["same_b/05_twin"], [6]),
        ([], []),
    ],
)
def test_what_is_meant(wanted: list[str], found: list[int]) -> None:
    assert resolve(wanted, JOBS) == [JOBS[index] for index in found]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nothing*", "no job matches 'nothing\\*'"),
        ("3", "no job '3'"),
        ("01_ppo_see_2", r"no job '01_ppo_see_2'\. Did you mean '01_ppo_see_1'\?"),
        ("05_twin", "'05_twin' is the name of 2 jobs: same_a/05_twin, same_b/05_twin; give one of these"),
        ("0", "'0' is the name of 2 jobs: ppo_/00_ppo_see_0, sac_v2/00_sac_see_0"),
        ("\u00b2", "no job '\u00b2'"),  # a digit to Python, but no number
        ("", "no job ''"),
    ],
)
def test_what_is_not_clear_is_an_error_that_helps(wanted: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve([wanted], JOBS)


class Counted(list[str]):
    """How often it is gone through."""

    passes = 0

    def __iter__(self) -> Iterator[str]:
        self.passes += 1
        return super().__iter__()

    def __contains__(self, item: object) -> bool:
        self.passes += 1
        return super().__contains__(item)


def test_many_names_of_many_jobs_do_not_go_through_all_jobs_for_each() -> None:
    jobs = Counted(f"e_/{number}_e" for number in range(300))
    asked = [job if number % 3 else str(number) for number, job in enumerate(jobs)]
    jobs.passes = 0
    assert resolve(asked, jobs) == list(jobs)
    assert jobs.passes < 5
