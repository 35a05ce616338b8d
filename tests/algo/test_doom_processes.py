"""What stands around the engine: locks, leftovers, launcher, start places. No engine is needed for them."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sf_algo.envs.doom import launcher, packet_wait, shm, start_lock, watch
from tests.algo.waiting import wait_for_end


def test_a_lock_that_a_dead_engine_took_along_is_released(tmp_path: Path) -> None:
    queue = tmp_path / "ViZDoomMQCtr"
    words = np.zeros(1024, np.int32)
    words[12:16] = [2, 0, 4711, 1]  # a pthread mutex with a waiter, held by process 4711
    queue.write_bytes(words.tobytes())
    mapped = watch.map_queue(queue)
    assert mapped is not None
    assert not watch.release_lock_of_dead(4712, mapped)
    assert watch.release_lock_of_dead(4711, mapped)
    assert np.frombuffer(queue.read_bytes(), np.int32)[12:16].tolist() == [0, 0, 0, 1]
    assert not watch.release_lock_of_dead(4711, mapped)
    mapped.close()
    assert watch.map_queue(tmp_path / "gone") is None


def test_segments_in_use_or_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, mapped, opened, foreign = (tmp_path / f"ViZDoomSM{name}" for name in ("a", "b", "c", "d"))
    for path in (dead, mapped, opened, foreign, tmp_path / "another"):
        path.write_bytes(bytes(8192))
    (tmp_path / "ViZDoomLink").symlink_to(dead)
    with mapped.open("r+b") as file:
        view = mmap.mmap(file.fileno(), 8192)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert shm.remove_dead_segments(tmp_path) == []
    monkeypatch.undo()
    with opened.open("r+b"):
        assert shm.remove_dead_segments(tmp_path) == ["ViZDoomSMa", "ViZDoomSMd"]
    view.close()
    assert shm.remove_dead_segments(tmp_path) == ["ViZDoomSMb", "ViZDoomSMc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ViZDoomLink", "another"]


def test_without_leases_maps_and_files_of_all_processes_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_leases(fd: int, command: int, argument: int = 0) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", no_leases)
    young, old, mapped, opened = (tmp_path / f"ViZDoomSM{name}" for name in ("a", "b", "c", "d"))
    for path in (young, old, mapped, opened):
        path.write_bytes(bytes(8192))
        if path is not young:
            os.utime(path, (0, 0))
    with mapped.open("rb") as file:
        view = mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ)
    holder = [sys.executable, "-c", f"f = open({str(opened)!r}); print(1, flush=True); input()"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        # a machine may run processes that even their own user cannot look into; those count as users
        visible = [Path(f"/proc/{pid}") for pid in (os.getpid(), other.pid)]
        monkeypatch.setattr(shm, "_processes", lambda: iter(visible))
        assert shm.remove_dead_segments(tmp_path) == ["ViZDoomSMb"]
        other.kill()
    view.close()
    assert shm.remove_dead_segments(tmp_path) == ["ViZDoomSMc", "ViZDoomSMd"]


def test_a_process_that_gives_up_removes_the_segments_it_maps(tmp_path: Path) -> None:
    mine, others = tmp_path / "ViZDoomSMmine", tmp_path / "ViZDoomSMothers"
    for path in (mine, others):
        path.write_bytes(bytes(8192))
    with mine.open("r+b") as file, mmap.mmap(file.fileno(), 8192):
        assert shm.remove_own_segments(tmp_path) == ["ViZDoomSMmine"]
        assert shm.remove_own_segments(tmp_path) == [], "mapped, but without a name any more"
    assert others.exists()


@pytest.mark.parametrize("has_setpriv", [True, False])
def test_the_launcher_becomes_the_program_and_dies_with_its_parent(
    has_setpriv: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_setpriv:
        monkeypatch.setattr("shutil.which", lambda name: None)
    launcher._die_with_parent.cache_clear()
    with launcher.guarded(Path("/bin/pwd"), working_dir=tmp_path) as path:
        assert subprocess.run([path, "-P"], capture_output=True, text=True).stdout.strip() == str(tmp_path)
    code = (
        "import subprocess, sys, os, signal\n"
        "from pathlib import Path\n"
        "from sf_algo.envs.doom import launcher\n"
        f"launcher._die_with_parent = lambda: {launcher._die_with_parent()!r}\n"
        "with launcher.guarded(Path('/bin/sleep'), working_dir=Path('/')) as path:\n"
        "    child = subprocess.Popen([path, '600'])\n"
        "    while 'sleep' not in Path(f'/proc/{child.pid}/comm').read_text(): pass\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    launcher._die_with_parent.cache_clear()
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    wait_for_end(int(parent.stdout))


def test_term_to_a_whole_tree_leaves_the_engine_to_its_player() -> None:
    with launcher.guarded(Path("/bin/grep"), working_dir=Path("/")) as path:
        shown = subprocess.run([path, "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert int(shown.split()[1], 16) & 1 << (signal.SIGTERM - 1)


def test_start_places_are_taken_in_turn_and_given_up_by_the_dead(tmp_path: Path) -> None:
    with (
        start_lock.start_place(tmp_path, places=2) as first,
        start_lock.start_place(tmp_path, places=2) as second,
    ):
        assert {first, second} == {0, 1}
        with start_lock.start_place(tmp_path, places=2, timeout_s=0.0) as third:
            assert third is None, "late beats never"
    code = (
        "import os\nfrom pathlib import Path\nfrom sf_algo.envs.doom.start_lock import start_place\n"
        f"place = start_place(Path({str(tmp_path)!r}), places=1)\nplace.__enter__()\nos._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with start_lock.start_place(tmp_path, places=1, timeout_s=0.0) as place:
        assert place == 0


def test_the_library_for_waiting_is_compiled_once_or_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "/no/such/compiler")
    packet_wait.library.cache_clear()
    caplog.set_level("INFO")
    assert packet_wait.library() is None
    assert "engines cannot sleep while they wait" in caplog.text
    assert "/no/such/compiler" in caplog.text
    monkeypatch.delenv("CC")
    packet_wait.library.cache_clear()
    try:
        if shutil.which("cc") is None:
            pytest.skip("this machine has no C compiler")
        found = packet_wait.library()
        assert found is not None
        assert [path.name for path in found.parent.iterdir()] == [found.name], "nothing half done beside it"
        made = found.stat().st_mtime_ns
        packet_wait.library.cache_clear()
        assert packet_wait.library() == found
        assert found.stat().st_mtime_ns == made
        wait_without_packets(found)
    finally:
        packet_wait.library.cache_clear()


def wait_without_packets(library: Path) -> None:
    """A process that asks for packets as an engine does sleeps instead of spinning, and is given what comes."""
    code = (
        "import ctypes, resource, socket, time\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "own.bind(('127.0.0.1', 0)); own.setblocking(False)\n"
        "buffer = ctypes.create_string_buffer(100)\n"
        "ask = lambda: libc.recvfrom(own.fileno(), buffer, 100, 0, None, None)\n"
        "own.sendto(b'abc', own.getsockname())\n"
        "assert (ask(), buffer.raw[:3]) == (3, b'abc')\n"
        "assert [(ask(), ctypes.get_errno()) for _ in range(3000)] == [(-1, 11)] * 3000\n"
        "own.sendto(b'abcd', own.getsockname())\n"
        "assert ask() == 4\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)\n"
    )
    env = {**os.environ, "LD_PRELOAD": str(library)}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert int(told) > 10, "times that it slept"
