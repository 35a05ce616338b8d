"""Flags that parse already but whose feature this version does not have: starting with them is an error."""

from __future__ import annotations

from sf_algo.config.sections import Config


def unsupported_features(config: Config) -> list[str]:
    """One line for each feature asked for that does not exist yet."""
    missing = []
    if config.pbt.with_pbt:
        missing.append(
            "--with_pbt=True: population-based training is not in this version; without it num_policies > 1 "
            "trains independent policies"
        )
    return missing
