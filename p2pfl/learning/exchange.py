"""Which tensors of a model the devices exchange, and which stay on each device.

- *Shared* tensors are exchanged: parameters that train, and buffers of modules that train.
- *Personal* tensors match a pattern of `--personal`. They train on each device and never leave it (FedPer,
  Arivazhagan et al. 2019; with the patterns of batch normalisation FedBN, Li et al. 2021).
- *Frozen* tensors are all others: they do not train and are the same on all devices.

Names are those of the state dict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from p2pfl.errors import TaskError

SHOWN_NAMES = 6
"""Names of tensors in a message."""


class TensorKinds(NamedTuple):
    """The names of the tensors of a model, in the order of its state dict."""

    shared: tuple[str, ...]
    personal: tuple[str, ...]
    frozen: tuple[str, ...]


class _Known(NamedTuple):
    """The kinds of a module that had the state dict *names*."""

    names: tuple[str, ...]
    kinds: TensorKinds


_known: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], _Known]] = WeakKeyDictionary()


def tensor_kinds(
    module: nn.Module, personal: Sequence[str] = (), state: Mapping[str, Any] | None = None
) -> TensorKinds:
    """Return the kinds of the tensors of *module*; those that match a pattern of *personal* are personal.

    The first call decides: a loop of the user's own may freeze and unfreeze parameters later, and the devices
    still exchange the same tensors. *state* is the state dict of *module*, if the caller has it.

    Raises:
        TaskError: a pattern matches no tensor, or nothing is left to exchange.
    """
    names, patterns = tuple(module.state_dict() if state is None else state), tuple(personal)
    of_module = _known.setdefault(module, {})
    known = of_module.get(patterns)
    if known is None or known.names != names:
        known = of_module[patterns] = _Known(names, _kinds(module, names, patterns))
    return known.kinds


def _kinds(module: nn.Module, names: tuple[str, ...], patterns: tuple[str, ...]) -> TensorKinds:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise TaskError(
                f"--personal {pattern!r} matches no tensor of the model, whose tensors are "
                f"{_some(names)}: use the name of one, or a pattern such as 'head.*'."
            )
    mine = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
    still = _still(module) - mine
    shared = tuple(name for name in names if name not in mine and name not in still)
    if mine and not shared:
        raise TaskError(
            f"--personal {' '.join(map(repr, patterns))} leaves no tensor that trains for the devices to "
            "exchange: use patterns that match a part of the model, such as 'head.*'."
        )
    return TensorKinds(
        shared, tuple(name for name in names if name in mine), tuple(name for name in names if name in still)
    )


def _still(module: nn.Module) -> set[str]:
    """Return the names of the parameters of *module* that do not train, and of the buffers of still modules.

    A model without any parameter that trains has no still tensors: nothing tells which ones are meant.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if not any(one.requires_grad for one in parameters.values()):
        return set()
    still = {name for name, one in parameters.items() if not one.requires_grad}
    for prefix, part in still_modules(module):
        still |= {f"{prefix}{name}" for name, _ in part.named_buffers(recurse=False, remove_duplicate=False)}
    return still


def still_modules(
    module: nn.Module, prefix: str = "", *, trains: bool = True
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the parts of *module* that do not train, each with the prefix of the names of its tensors.

    A part trains if a parameter in it or below it does. A part without parameters, such as batch
    normalisation without an affine map, is as the part around it, for which *trains* stands.
    """
    own = [one.requires_grad for one in module.parameters()]
    trains = any(own) if own else trains
    if not trains:
        yield prefix, module
    for name, child in module.named_children():
        yield from still_modules(child, f"{prefix}{name}.", trains=trains)


def keep_still(module: nn.Module) -> None:
    """Set the parts of *module* that do not train and have buffers to evaluation.

    In training, batch normalisation changes its running statistics without a gradient. Those of a frozen part
    must stay what they are on all devices.
    """
    for _, part in still_modules(module):
        if next(part.buffers(recurse=False), None) is not None:
            part.training = False


def frozen_buffers(module: nn.Module, personal: Sequence[str] = ()) -> dict[str, Tensor]:
    """Return copies of the frozen buffers of *module*, by name."""
    frozen = frozenset(tensor_kinds(module, personal).frozen)
    named = module.named_buffers(remove_duplicate=False)
    return {name: buffer.detach().clone() for name, buffer in named if name in frozen}


def restore(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy *tensors*, by name, into the state of *module*."""
    if tensors:
        state = module.state_dict(keep_vars=True)
        for name, value in tensors.items():
            state[name].detach().copy_(value)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
