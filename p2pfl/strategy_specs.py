"""The aggregation strategies of a run: their names, options and defaults, without torch.

The code of each is in `p2pfl.learning.strategies`, which the registry there finds by the class of its
specification. This module holds what every node needs: the least number of updates, and the blobs that a
strategy adds to a record and to an update. An option has the default of the paper.

A *slot* is one number for each floating-point element of the model, such as a momentum. The state of a
strategy has some slots and is a blob of each record. The control of an update has some slots and is a second
blob of the update.
"""

from __future__ import annotations

from typing import Annotated, assert_never

import msgspec
from msgspec import Meta

from p2pfl.spec_part import SpecPart

Rate = Annotated[float, Meta(gt=0, le=1e6)]
"""A learning rate or another positive factor."""

Decay = Annotated[float, Meta(ge=0, lt=1)]
"""A factor of a moving average."""

Attackers = Annotated[int, Meta(ge=0, le=127)]
"""Number of updates of a round that may be arbitrarily wrong without harm."""

SlotName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
"""Name of a slot, such as "momentum"."""

# --- means and server optimizers ----------------------------------------------------------------------------


class FedAvgSpec(SpecPart, frozen=True, tag="fedavg"):
    """Federated averaging: the mean of the updates, weighted by their examples (McMahan et al. 2017)."""


class FedAvgMSpec(SpecPart, frozen=True, tag="fedavgm"):
    """FedAvg with momentum of the server (Hsu, Qi and Brown 2019)."""

    server_lr: Rate = 1.0
    server_momentum: Decay = 0.9


class FedAdagradSpec(SpecPart, frozen=True, tag="fedadagrad"):
    """Adagrad on the mean change of the updates (Reddi et al. 2021, algorithm 2)."""

    server_lr: Rate = 0.1
    beta1: Decay = 0.0
    tau: Rate = 1e-3
    """Adaptivity: added to the root of the second moment."""


class FedAdamSpec(SpecPart, frozen=True, tag="fedadam"):
    """Adam on the mean change of the updates (Reddi et al. 2021, algorithm 2)."""

    server_lr: Rate = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Rate = 1e-3
    """Adaptivity: added to the root of the second moment."""


class FedYogiSpec(SpecPart, frozen=True, tag="fedyogi"):
    """Yogi on the mean change of the updates (Reddi et al. 2021, algorithm 2)."""

    server_lr: Rate = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Rate = 1e-3
    """Adaptivity: added to the root of the second moment."""


class QFedAvgSpec(SpecPart, frozen=True, tag="q-fedavg"):
    """Fair averaging: a member with a higher loss weighs more (Li et al. 2020, algorithm 2)."""

    q: Annotated[float, Meta(ge=0, le=100)] = 1.0
    """0 is an unweighted mean; larger values make the losses of the members more equal."""


class FedNovaSpec(SpecPart, frozen=True, tag="fednova"):
    """Normalised averaging: changes are divided by the local steps they took (Wang et al. 2020)."""


class DiLoCoSpec(SpecPart, frozen=True, tag="diloco"):
    """Nesterov momentum of the server, for many local steps in a round (Douillard et al. 2023)."""

    server_lr: Rate = 0.7
    server_momentum: Decay = 0.9


# --- against client drift -----------------------------------------------------------------------------------


class FedProxSpec(SpecPart, frozen=True, tag="fedprox"):
    """FedAvg with a proximal term in the local objective (Li et al. 2020)."""

    mu: Annotated[float, Meta(ge=0, le=1e6)] = 0.01
    """Factor of the proximal term."""


class ScaffoldSpec(SpecPart, frozen=True, tag="scaffold"):
    """Control variates correct the direction of local steps (Karimireddy et al. 2020, option II)."""

    server_lr: Rate = 1.0


class FedDynSpec(SpecPart, frozen=True, tag="feddyn"):
    """Dynamic regularisation of the local objective (Acar et al. 2021)."""

    alpha: Rate = 0.01
    """Factor of the regularisation."""


class DittoSpec(SpecPart, frozen=True, tag="ditto"):
    """FedAvg, and a personal model on each device that stays close to the common one (Li et al. 2021)."""

    strength: Annotated[float, Meta(ge=0, le=1e6)] = 0.1
    """Lambda, the factor of the distance of the personal model to the common one."""


# --- robust to wrong updates --------------------------------------------------------------------------------


class MedianSpec(SpecPart, frozen=True, tag="median"):
    """The median of each element (Yin et al. 2018, algorithm 1, option I)."""


class TrimmedMeanSpec(SpecPart, frozen=True, tag="trimmed-mean"):
    """The mean of each element without its smallest and largest values (Yin et al. 2018, option II)."""

    attackers: Attackers = 1
    """Number of values that are removed at each end."""


class KrumSpec(SpecPart, frozen=True, tag="krum"):
    """The update that is closest to its nearest neighbours (Blanchard et al. 2017)."""

    attackers: Attackers = 1


class MultiKrumSpec(SpecPart, frozen=True, tag="multi-krum"):
    """The mean of the updates with the best scores of Krum (Blanchard et al. 2017, section 4)."""

    attackers: Attackers = 1
    keep: Annotated[int, Meta(ge=0, le=256)] = 0
    """Number of updates that are averaged; 0: all but `attackers`."""


class BulyanSpec(SpecPart, frozen=True, tag="bulyan"):
    """Krum selects updates, and a trimmed mean combines them (El Mhamdi et al. 2018)."""

    attackers: Attackers = 1


class GeometricMedianSpec(SpecPart, frozen=True, tag="geometric-median"):
    """The smoothed geometric median (Pillutla et al. 2022, algorithm 2)."""

    smoothing: Rate = 1e-6
    iterations: Annotated[int, Meta(ge=1, le=1000)] = 100
    """Maximum number of Weiszfeld iterations; they end earlier when the result no longer changes."""


class NormClippingSpec(SpecPart, frozen=True, tag="norm-clipping"):
    """The mean of changes that are scaled down to a maximum norm (Sun et al. 2019)."""

    norm: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Maximum norm of a change; 0: the median norm of the round."""


class CentredClippingSpec(SpecPart, frozen=True, tag="centred-clipping"):
    """The mean of changes, clipped around that of the last round (Karimireddy et al. 2021)."""

    radius: Rate = 10.0
    iterations: Annotated[int, Meta(ge=1, le=100)] = 1


# --- of the user's own --------------------------------------------------------------------------------------


class OwnStrategySpec(SpecPart, frozen=True, tag="own"):
    """A class in a Python file that each device has. The file never travels."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    """Name of the file and of the class, such as "mine.py:Cautious"."""
    least: Annotated[int, Meta(ge=1, le=256)] = 1
    """Least number of updates, the attribute `least_updates` of the class."""
    slots: Annotated[tuple[SlotName, ...], Meta(max_length=8)] = ()
    """Slots of its state, the attribute `slots` of the class."""
    options: dict[SlotName, float] = msgspec.field(default_factory=dict)
    """Keyword arguments of the class."""


StrategySpec = (
    FedAvgSpec
    | FedAvgMSpec
    | FedAdagradSpec
    | FedAdamSpec
    | FedYogiSpec
    | QFedAvgSpec
    | FedNovaSpec
    | DiLoCoSpec
    | FedProxSpec
    | ScaffoldSpec
    | FedDynSpec
    | DittoSpec
    | MedianSpec
    | TrimmedMeanSpec
    | KrumSpec
    | MultiKrumSpec
    | BulyanSpec
    | GeometricMedianSpec
    | NormClippingSpec
    | CentredClippingSpec
    | OwnStrategySpec
)
"""All aggregation strategies."""


def strategy_name(strategy: StrategySpec) -> str:
    """Return the name of *strategy*, as `--strategy` has it."""
    return strategy.name if isinstance(strategy, OwnStrategySpec) else str(strategy.__struct_config__.tag)


def strategy_options(strategy: StrategySpec) -> dict[str, float]:
    """Return the options of *strategy* that have not their default, by name."""
    if isinstance(strategy, OwnStrategySpec):
        return dict(strategy.options)
    values = ((field, getattr(strategy, field.name)) for field in msgspec.structs.fields(strategy))
    return {field.name: value for field, value in values if value != field.default}


def describe_strategy(strategy: StrategySpec) -> str:
    """Return *strategy* with its options that have not their default, such as "fedadam (server_lr 0.05)"."""
    told = ", ".join(f"{name} {value:g}" for name, value in strategy_options(strategy).items())
    return f"{strategy_name(strategy)} ({told})" if told else strategy_name(strategy)


def least_updates(strategy: StrategySpec) -> int:
    """Return the least number of updates that *strategy* can aggregate.

    With fewer, what its theory promises does not hold, and a round keeps its parent's model.
    """
    match strategy:
        case MedianSpec() | GeometricMedianSpec():
            return 3  # one arbitrary update is a minority only from three on
        case TrimmedMeanSpec(attackers):
            return 2 * attackers + 1
        case KrumSpec(attackers) | MultiKrumSpec(attackers):
            return 2 * attackers + 3  # Blanchard et al. 2017, proposition 4.2: 2f + 2 < n
        case BulyanSpec(attackers):
            return 4 * attackers + 3  # El Mhamdi et al. 2018, section 4
        case OwnStrategySpec():
            return strategy.least
        case (
            FedAvgSpec()
            | FedAvgMSpec()
            | FedAdagradSpec()
            | FedAdamSpec()
            | FedYogiSpec()
            | QFedAvgSpec()
            | FedNovaSpec()
            | DiLoCoSpec()
            | FedProxSpec()
            | ScaffoldSpec()
            | FedDynSpec()
            | DittoSpec()
            | NormClippingSpec()
            | CentredClippingSpec()
        ):
            return 1
        case _:
            assert_never(strategy)


def state_slots(strategy: StrategySpec) -> tuple[str, ...]:
    """Return the slots of the state of *strategy*, which is a blob of each record; empty without a state."""
    match strategy:
        case FedAvgMSpec() | DiLoCoSpec():
            return ("momentum",)
        case FedAdagradSpec() | FedAdamSpec() | FedYogiSpec():
            return ("first", "second")
        case ScaffoldSpec():
            return ("control",)
        case FedDynSpec():
            return ("drift",)
        case CentredClippingSpec():
            return ("centre",)
        case OwnStrategySpec():
            return strategy.slots
        case (
            FedAvgSpec()
            | QFedAvgSpec()
            | FedNovaSpec()
            | FedProxSpec()
            | DittoSpec()
            | MedianSpec()
            | TrimmedMeanSpec()
            | KrumSpec()
            | MultiKrumSpec()
            | BulyanSpec()
            | GeometricMedianSpec()
            | NormClippingSpec()
        ):
            return ()
        case _:
            assert_never(strategy)


def control_slots(strategy: StrategySpec) -> tuple[str, ...]:
    """Return the slots of the control that each update of a run with *strategy* has; empty without one."""
    return ("control",) if isinstance(strategy, ScaffoldSpec) else ()


def memory_slots(strategy: StrategySpec) -> tuple[str, ...]:
    """Return the slots that a device remembers for itself from round to round; empty if there are none."""
    match strategy:
        case ScaffoldSpec():
            return ("control",)
        case FedDynSpec():
            return ("gradient",)
        case _:
            return ()


def trains_differently(strategy: StrategySpec) -> bool:
    """Return whether *strategy* changes the local training, so that a loop of the user's own cannot do it."""
    return isinstance(strategy, FedProxSpec | ScaffoldSpec | FedDynSpec | QFedAvgSpec | DittoSpec)
