"""The process that becomes tensorboard. Started as a file, so that it imports nothing of the package.

    python child.py WORKSPACE [tensorboard's arguments]

Standard input is the lifeline: its end means that the parent is gone, however it ended. Then tensorboard ends, and the
workspace, which the parent can no longer remove, goes with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import threading
import time

_GRACE_S = 5.0


def main() -> None:
    """Run tensorboard with the arguments after the workspace folder, which goes when the parent is gone."""
    workspace = sys.argv[1]
    sys.argv = ["tensorboard", *sys.argv[2:]]
    sys.path.pop(0)  # this file's folder, whose modules are none of tensorboard's
    orphaned = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Registered first, so called last: tensorboard itself tidies up, and so uses its folders, at exit.
    atexit.register(_remove_if_orphaned, workspace, orphaned)
    threading.Thread(target=_watch, args=(workspace, orphaned), daemon=True).start()
    from tensorboard.main import run_main

    run_main()


def _remove_if_orphaned(workspace: str, orphaned: threading.Event) -> None:
    if orphaned.is_set():
        shutil.rmtree(workspace, ignore_errors=True)


def _watch(workspace: str, orphaned: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    orphaned.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)  # the process ends meanwhile, unless it hangs
    shutil.rmtree(workspace, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
