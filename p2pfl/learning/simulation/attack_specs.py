"""The attacks that simulated clients can make: names and options, without torch.

The code is in `p2pfl.learning.simulation.attacks`. Each attacker knows the model and trains like an honest
client where the attack needs it.
"""

from __future__ import annotations

import difflib
from typing import Annotated, get_args

from msgspec import Meta

from p2pfl.errors import UserError
from p2pfl.learning.part_options import make_part
from p2pfl.spec_part import SpecPart
from p2pfl.text import one_line

BACKDOOR = "backdoor"
"""The metric of a backdoor: the share of held-out examples of other classes for which it works."""

Factor = Annotated[float, Meta(gt=0, le=1e6)]
"""A positive factor."""


class LabelFlip(SpecPart, frozen=True, tag="label-flip"):
    """Trains with wrong classes: class c of C becomes C - 1 - c (Fang et al. 2020)."""


class SignFlip(SpecPart, frozen=True, tag="sign-flip"):
    """Sends the opposite of its change, enlarged (Li et al. 2019, RSA, section 5)."""

    scale: Factor = 4.0
    """Factor of the change that is sent; 4 is that of the paper's experiments."""


class GaussianNoise(SpecPart, frozen=True, tag="gaussian"):
    """Sends the model with normal noise in place of a change (Blanchard et al. 2017)."""

    sigma: Factor = 1.0
    """Standard deviation of the noise of each parameter."""


class Alie(SpecPart, frozen=True, tag="alie"):
    """A little is enough: all attackers send a change within the spread of the honest ones.

    Baruch, Baruch and Goldberg 2019, algorithm 3.
    """

    z: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    """Standard deviations from the mean; 0: the largest number that a majority supports, as in the paper,
    which is 0 where the attackers are few."""


class InnerProduct(SpecPart, frozen=True, tag="inner-product"):
    """Inner product manipulation: all attackers send the negative mean of the honest changes.

    Xie, Koyejo and Gupta 2020, "Fall of Empires".
    """

    epsilon: Factor = 0.5
    """Factor of the negative mean."""


class Backdoor(SpecPart, frozen=True, tag="backdoor"):
    """Trains so that inputs with a trigger get the class of the attacker's choice.

    Gu, Dolan-Gavitt and Garg 2017, BadNets; `scale` is the model replacement of Bagdasaryan et al. 2020.
    """

    target: Annotated[int, Meta(ge=0, le=10**6)] = 0
    """Index of the class that inputs with the trigger get."""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Share of each batch that gets the trigger."""
    size: Annotated[int, Meta(ge=1, le=1024)] = 2
    """Edge in pixels of the trigger, a bright square in the last corner; of other inputs the number of last
    elements."""
    scale: Factor = 1.0
    """Factor of the change that is sent."""


AttackSpec = LabelFlip | SignFlip | GaussianNoise | Alie | InnerProduct | Backdoor
"""All attacks."""

ATTACKS: dict[str, type[SpecPart]] = {str(one.__struct_config__.tag): one for one in get_args(AttackSpec)}
"""The attacks by name."""


def make_attack(name: str, options: dict[str, object]) -> AttackSpec:
    """Return the attack *name* with *options*.

    Raises:
        UserError: there is no such attack or option, or a value is out of its range.
    """
    if name not in ATTACKS:
        near = difflib.get_close_matches(name, ATTACKS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"the attacks are {', '.join(ATTACKS)}."
        raise UserError(f"There is no attack {one_line(name)!r}; {hint}")
    attack = make_part(f"attack {name!r}", ATTACKS[name], options)
    assert isinstance(attack, AttackSpec)
    return attack
