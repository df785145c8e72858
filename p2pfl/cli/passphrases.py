"""Passphrases of private keys: read from a file, or asked for in the terminal.

They are no arguments and no environment variables: other users and programs of a machine may see both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from p2pfl.errors import CredentialsError, PassphraseNeededError
from p2pfl.identity.passphrases import read_passphrase

MIN_CHARACTERS = 8
"""Of a new passphrase. A few random words have more; OWASP allows nothing shorter."""

Result = TypeVar("Result")


def with_passphrase(
    file: Path | None,
    use: Callable[[bytes | None], Result],
    what: str = "ca.key",
    option: str = "--passphrase-file",
) -> Result:
    """Return what *use* returns with the passphrase in *file*; without a file, ask for it if one is needed.

    *what* names the key in the question, *option* is what gives the file.

    Raises:
        CredentialsError: the passphrase cannot be read or is wrong, or is needed and there is no terminal.
    """
    if file is not None:
        return use(read_passphrase(file))
    try:
        return use(None)
    except PassphraseNeededError as error:
        if not sys.stdin.isatty():
            raise CredentialsError(
                f"The private key {what} has a passphrase, and there is no terminal to enter it in: give the "
                f"file that has it with {option}."
            ) from error
    return use(_ask(f"Passphrase of {what}: "))


def authority_passphrase(directory: Path, file: Path | None) -> bytes | None:
    """Return the passphrase of the CA's key in *directory*: from *file*, or asked for; None if it has none.

    Raises:
        CredentialsError: there is no usable CA, or as `with_passphrase` says.
    """
    from p2pfl.identity.authority import open_authority

    def opens(entered: bytes | None) -> bytes | None:
        open_authority(directory, entered)
        return entered

    return with_passphrase(file, opens)


def new_passphrase(file: Path | None) -> bytes:
    """Return a passphrase for a new key: the one in *file*, or one that the user enters twice.

    Raises:
        CredentialsError: it is too short, the two differ, or there is neither file nor terminal.
    """
    if file is not None:
        chosen = read_passphrase(file)
    else:
        if not sys.stdin.isatty():
            raise CredentialsError(
                "There is no terminal to enter a passphrase in: give a file that holds it with "
                "--passphrase-file."
            )
        chosen = _ask("New passphrase for ca.key: ")
        if _ask("Once more: ") != chosen:
            raise CredentialsError("The two passphrases differ, so nothing was made. Try again.")
    if len(chosen.decode(errors="replace")) < MIN_CHARACTERS:
        raise CredentialsError(
            f"The passphrase has fewer than {MIN_CHARACTERS} characters, so nothing was made. Four random "
            "words are a good one."
        )
    return chosen


def _ask(question: str) -> bytes:
    """Ask in the terminal, without showing what is entered; Ctrl-C and Ctrl-D end the command."""
    import getpass

    try:
        return getpass.getpass(question).encode()
    except EOFError:
        raise CredentialsError("No passphrase was entered, so nothing was done.") from None
