"""The maps that the vizdoom package lacks: which published wheel holds them, and what each must hash to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

REQUIREMENT = "sample-factory==2.1.1"
WHEEL_NAME = "sample_factory-2.1.1-py3-none-any.whl"
WHEEL_SHA256 = "4acaef95c3790f4328bf839e07631737879f3c6409d22ee6e5d67635db8482a7"
FOLDER_IN_WHEEL = "sf_examples/vizdoom/doom/scenarios/"

MAP_SHA256: Mapping[str, str] = MappingProxyType(
    {
        "battle.wad": "b29b461995ae7035095a5283c57ef13393e6839326754e94f5b80af5f07e5484",
        "battle2.wad": "0851ae13490433b1e335d427dd391b3e0a6a33a97a16c0190579a2820935e522",
        "dwango5.wad": "2b7658f126321fc2ccf953dbbe8d585b4162350080b9715b46fc617d32cdb13a",
        "freedm.wad": "c0b998f0ebd0ce343d56e584546a0d3e177bd7e98e13abecd77e2c00dcd15426",
        "health_gathering_supreme.wad": "a3ecd9d0611c72973923994e96a26df0cfb5e93dfeab8ee734cfb921a94fd029",
        "ssl2.wad": "3a3165f3cc3e34ede782e2cb2e986802dba641a19ccf2bb8b65f60065f86a601",
        "two_colors_easy.wad": "7fe0a1285cf4cd39d4e890ffc91f824131c6667b4d0c26d3bfb6b1ed568c8d8e",
        "two_colors_hard.wad": "fd0cfe76c54b8ad7b95262aab4d284b08ffeb86af5c24c100045c093ca843822",
    }
)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
