from __future__ import annotations

import sys

from sf_algo.compat.sample_factory.enjoy import enjoy
from tests.algo.moved_project.train import parse, register


def main():
    register()
    return enjoy(parse(evaluation=True))


if __name__ == "__main__":
    sys.exit(main())
