"""The code of an invitation: three words that people can say across a room.

The words are those of the English list of BIP 39 (package `mnemonic`): 2048 common words that already differ
in their first four letters. Three of them are 33 bits. That is little for a password, and plenty here: the
code is checked by a PAKE, so that an attacker must ask for each guess, and the invitation ends after five
wrong ones.
"""

from __future__ import annotations

import difflib
import re
import secrets
from functools import cache

from p2pfl.errors import UserError
from p2pfl.text import one_line

WORDS_IN_A_CODE = 3

NEAREST = 3
"""Number of similar words that are named for one that is not in the list."""


def new_code() -> str:
    """Return a new random code, such as "lemon-tiger-voyage"."""
    return "-".join(secrets.choice(word_list()) for _ in range(WORDS_IN_A_CODE))


def parse_code(text: str) -> str:
    """Return the code in *text*, whatever its capitals and whatever stands between its words.

    Raises:
        UserError: it has another number of words, or one that is in no code; the message names similar words.
    """
    words = _split(text)
    if len(words) != WORDS_IN_A_CODE:
        raise UserError(
            f"A code has {WORDS_IN_A_CODE} words, such as lemon-tiger-voyage, and "
            f"{one_line(repr(text), 60)} has {len(words)}: type it as the inviting device shows it."
        )
    for word in words:
        if word not in word_list():
            near = difflib.get_close_matches(word, word_list(), NEAREST)
            hint = f"did you mean {', '.join(near)}?" if near else "look at the inviting device again."
            raise UserError(f"The word {one_line(repr(word), 40)} is in no code: {hint}")
    return "-".join(words)


def is_code(text: str) -> bool:
    """Whether *text* is a code, so that it is no address."""
    words = _split(text)
    return len(words) == WORDS_IN_A_CODE and all(word in word_list() for word in words)


@cache
def word_list() -> tuple[str, ...]:
    """Return all words of codes."""
    from mnemonic import Mnemonic

    return tuple(Mnemonic("english").wordlist)


def _split(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,;._–—-]+", text.strip().casefold()) if word]
