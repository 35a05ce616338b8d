"""What `--notify_command` can be told of. Apart from `notify.py`: the guardian loads the flags and stays small."""

from __future__ import annotations

from typing import Literal

NotifyEvent = Literal["first_failure", "end"]
NOTIFY_EVENTS: tuple[NotifyEvent, ...] = ("first_failure", "end")
