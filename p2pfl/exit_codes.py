"""The exit codes of p2pfl's programs, each with one meaning.

The table of exit codes in `p2pfl/README.md` is made of this enum; a test compares them.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Why a program ended."""

    meaning: str
    """A sentence for the table."""

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """Make a member that is equal to the number *code*."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    COMPLETE = 0, "the run is over, complete or stopped by an operator, and its final model is here"
    FAILED = (
        1,
        "other commands only: `history --verify`, `doctor`, `simulate` or `demo` found a fault, a run of an "
        "`experiment` failed, the node refused a command, `predict` could not read a picture or "
        "file, or an invitation ended with free seats",
    )
    UNFIT = (
        2,
        "something on this device must be changed first: an option, a certificate, the data directory, the "
        "task, the limit of open files; at the start also a disk that is full or read-only. Every command "
        "ends with it after an error that it explains",
    )
    LEFT = 3, "the node left before the run was complete, also after SIGTERM or SIGHUP"
    CONFLICT = 4, "two different commits for one round were seen; this node stopped voting"
    NO_FINAL_MODEL = (
        5,
        "the run ended, but its final model could not be had: nobody who is here has it, or for half a "
        "minute there was no way to its bytes",
    )
    LOST_MODEL = 6, "an accepted model is lost: start with `--new-journal`"
    DISK = (
        7,
        "while the node ran, the disk refused what must not be forgotten: it is full, read-only or broken. "
        "Nothing that was said so far is lost; the same command goes on when there is room",
    )
    CLONED = (
        8,
        "the data directory is a copy or was restored from a backup, also at each later start: start with "
        "`--new-journal`",
    )
    LEFT_BEHIND = (
        9,
        "others continued this run from an earlier round than this node has, and no majority of its own is "
        "there: start with `--new-run` to join them",
    )
    UNTRAINED = 10, "the run is over, but no update was ever counted: its model is still the initial one"
    BUG = 70, "a fault in this program; its log has the details"
    SYSTEM = (
        71,
        "the operating system refuses something other than the disk, such as open files; the log has the "
        "details",
    )
    INTERRUPTED = (
        130,
        "stopped at once by a second Ctrl-C or SIGTERM; `demo`, `experiment`, `invite` and `simulate` by the "
        "first one",
    )
    READER_GONE = 141, "other commands only: the reader of the output has gone (`| head`), nothing is printed"


NEEDS_A_PERSON = (
    ExitCode.UNFIT,
    ExitCode.CONFLICT,
    ExitCode.LOST_MODEL,
    ExitCode.CLONED,
    ExitCode.LEFT_BEHIND,
    ExitCode.UNTRAINED,
)
"""Codes after which the same command ends in the same way: a service manager must not start it again."""

ENDED_ON_REQUEST = (ExitCode.LEFT, ExitCode.INTERRUPTED)
"""Codes of a node that somebody has asked to end, which is no failure."""
