"""What `p2pfl invite` and `p2pfl up` share: questions and lines for the person who invites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from p2pfl.errors import UserError

if TYPE_CHECKING:
    from p2pfl.cli.keyboard import Keyboard
    from p2pfl.enrolment.invitation import InvitationState
    from p2pfl.enrolment.inviter import Applicant, ConfirmFunction

ENDS = {
    "full": "all seats are taken, and each device has its certificate",
    "expired": "its time is over",
    "tries": "five codes were wrong, so somebody may be guessing",
}
"""By the state in which an invitation ended, why."""


def tell(line: str) -> None:
    """Print *line* for the person who invites, beside what a script reads."""
    typer.echo(line, err=True)


def check_can_confirm(*, yes: bool) -> None:
    """Refuse to invite where nobody can be asked about a device.

    Raises:
        UserError: there is no terminal, and --yes is not given.
    """
    from p2pfl.cli.keyboard import has_terminal

    if not yes and not has_terminal():
        raise UserError(
            "Each device that joins is confirmed here by its name, and standard input is no terminal: run "
            "this in one, or give --yes to let in every device that knows the code."
        )


def confirmer(keyboard: Keyboard) -> ConfirmFunction:
    """Return what asks the person at *keyboard* whether a device may join."""

    async def confirm(applicant: Applicant) -> bool:
        while True:
            tell(f"? {applicant} wants to join. Let it in? Type y or n, then Enter.")
            answer = await keyboard.ask()
            if answer is None:
                tell("Nobody can answer any more: standard input is closed.")
            if answer is None or answer.casefold() in ("n", "no"):
                return False
            if answer.casefold() in ("y", "yes"):
                return True

    return confirm


def tell_end(state: InvitationState) -> None:
    """Say why an invitation has ended."""
    again = "" if state == "full" else " For another one, run `p2pfl invite`."
    tell(f"The invitation has ended: {ENDS[state]}.{again}")
