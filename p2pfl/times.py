"""Times for people, in UTC, so that two devices show the same one alike."""

from __future__ import annotations

from datetime import UTC, datetime


def show_time(moment: datetime) -> str:
    """Return *moment* as people read it on both devices alike: in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def show_timestamp(seconds: float) -> str:
    """Return *seconds* since the epoch, which may come from another node, like `show_time`."""
    try:
        return show_time(datetime.fromtimestamp(seconds, UTC))
    except (OSError, OverflowError, ValueError):
        return "a time out of range"
