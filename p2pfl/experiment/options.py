"""The options of a simulation, from Python or from an experiment's file, made into a `SimulatedRun`."""

from __future__ import annotations

import difflib
import importlib.util
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from p2pfl.errors import UserError
from p2pfl.learning import partition
from p2pfl.learning.choice import Choice, choose, make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.part_options import expectation, make_part
from p2pfl.learning.simulation.attack_specs import AttackSpec, make_attack
from p2pfl.learning.simulation.simulated import SimulatedRun, check_least, vectorised_flaw
from p2pfl.learning.strategy_choice import BUILTIN_STRATEGIES, choose_strategy
from p2pfl.paths import full
from p2pfl.runtime.configure import RUN_OPTIONS, parse_until
from p2pfl.spec import LocalTraining, RunSpec, personal_flaw
from p2pfl.strategy_specs import OwnStrategySpec, StrategySpec, least_updates
from p2pfl.text import one_line

NODES_ONLY = frozenset(
    {
        "task", "share", "partitions", "sample", "fraction", "sample_by", "min_updates",
        "round_cap", "drop_after", "strategy", "strategy_arg", "lora_target", "lora_train", "deadline",
    }
)  # fmt: skip
"""Options of a run of nodes that a simulation has in another form, or does not need."""

TRAINING = tuple(name for name in RUN_OPTIONS if name not in NODES_ONLY)
"""Options of a run that mean the same for nodes and for a simulation."""

PLACES = ("data", "data_root", "download", "classes")
"""Options about where data are."""

OWN = (
    "clients", "sample", "fraction", "strategy", "strategy_args", "attackers", "attack", "attack_args",
    "choose_attackers", "evaluate_every", "engine", "ray_address", "workers", "device", "vectorised",
)  # fmt: skip
"""Options of simulations only."""

NAMES = ("task", *dict.fromkeys((*OWN, *TRAINING, *PLACES)))
"""All options."""

ENGINES = ("local", "ray")
"""The engines; their code is in `p2pfl.learning.simulation.engine`."""

DEFAULT_CLIENTS = 10

NO_ATTACK = "none"
"""The attack of a run without attackers."""

OTHER_NAMES = {
    "learning_rate": "lr", "num_clients": "clients", "num_rounds": "rounds", "local_epochs": "epochs",
    "seeds": "seed", "aggregator": "strategy", "optimiser": "optimizer",
}  # fmt: skip
"""Options by the names that they have elsewhere."""

_COMMAND_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
"""An option of the command line."""

_OUT_OF_RANGE = re.compile(r"--(\S+) is out of range: ((?:expected|invalid enum) .*)\.$")
"""What the command line says of a value, after its own checks of types."""


class OptionError(UserError):
    """An option of a simulation is unknown or out of its range."""

    def __init__(self, option: str, text: str) -> None:
        """*text* may have options of the command line, such as `--batch-size`, which is batch_size here."""
        parts = text.split("`")  # every other one is a command
        parts[::2] = [
            _COMMAND_OPTION.sub(lambda found: found[1].replace("-", "_"), one) for one in parts[::2]
        ]
        super().__init__("`".join(parts))
        first = _COMMAND_OPTION.match(text)
        self.option = first[1].replace("-", "_") if first else option
        """Its name."""


@contextmanager
def naming(option: str) -> Iterator[None]:
    """Say of each error of the user that it is about *option*.

    Raises:
        OptionError: in place of it.
    """
    try:
        yield
    except OptionError:
        raise
    except UserError as error:
        raise OptionError(option, str(error)) from error


def hint_for(name: str) -> str:
    """Return what to use in place of the unknown option *name*, as half a sentence."""
    near = [OTHER_NAMES[name]] if name in OTHER_NAMES else difflib.get_close_matches(name, NAMES, 1)
    return f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(NAMES)}."


def make_run(options: Mapping[str, Any], *, is_object: bool = False, tolerated: int = 0) -> SimulatedRun:
    """Return the run that *options* mean; *is_object*: the task is a `p2pfl.Task`.

    A strategy that tolerates attackers tolerates those of the run, and without any *tolerated* ones, if its
    options do not say how many.

    Raises:
        UserError: an option is unknown, of another type or out of its range; the message names it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in NAMES:
            raise OptionError(name, f"A simulation has no option {one_line(name)!r}; {hint_for(name)}")
    clients = _whole(given, "clients", DEFAULT_CLIENTS, least=1)
    with naming("task"):
        choice = _choice(given, is_object=is_object)
    sample = _sample(given, clients)
    attackers, attack = _attackers(given, clients)
    run_options = {name: given[name] for name in TRAINING if name in given}
    scheme = run_options.pop("partition", None)
    spec = _spec(choice, run_options, scheme, clients)
    with naming("strategy"):
        strategy, code, sample = _strategy(given, clients, sample, len(attackers) or tolerated)
    spec = msgspec.structs.replace(spec, strategy=strategy)
    if flaw := personal_flaw(spec):
        raise OptionError("personalise", f"The options of the run exclude each other: {flaw}.")
    engine, ray_address = _engine(given)
    run = SimulatedRun(
        spec=spec,
        clients=clients,
        places=msgspec.structs.replace(choice.places, strategy=code),
        partition=getattr(spec.task, "partition", "") or scheme or "iid",
        sample=sample,
        attackers=attackers,
        attack=attack,
        evaluate_every=_whole(given, "evaluate_every", 1, least=1),
        engine=engine,
        ray_address=ray_address,
        workers=_whole(given, "workers", 1, least=1) if "workers" in given else 0,
        device=str(given.get("device", "auto")),
        vectorised=_truth(given, "vectorised"),
    )
    if run.vectorised and (flaw := vectorised_flaw(run)):
        raise OptionError("vectorised", f"vectorised cannot be used here: {flaw}; leave it out.")
    with naming("strategy"):
        check_least(run)
    return run


def _strategy(
    given: Mapping[str, Any], clients: int, sample: int, attackers: int
) -> tuple[StrategySpec, str, int]:
    """Return the strategy, where its class is, and the number of clients in a round, 0 for all.

    As with nodes, a fraction of the clients is at least as many as the strategy needs.
    """
    while True:
        there = sample or clients
        strategy, code = make_strategy(
            given.get("strategy", "fedavg"),
            _table(given, "strategy_args"),
            math.ceil(attackers * there / clients),
        )
        least = least_updates(strategy)
        if "fraction" not in given or there >= least or there == clients:
            return strategy, code, sample
        sample = least if least < clients else 0


def make_strategy(name: object, args: Mapping[str, Any], attackers: int) -> tuple[StrategySpec, str]:
    """Return the strategy *name* with *args*, and where a class of the user's own is (`DataPlaces.strategy`).

    A strategy that tolerates attackers tolerates *attackers*, if there are any and *args* do not say.

    Raises:
        UserError: there is no such strategy or option, or a value is out of its range.
    """
    if isinstance(name, str) and (":" in name or name.endswith(".py")):
        chosen = choose_strategy(name, [f"{key}={value}" for key, value in args.items()])
        return msgspec.convert(
            {**chosen.options["strategy_arg"], "type": "own"}, OwnStrategySpec
        ), chosen.code
    if not isinstance(name, str) or name not in BUILTIN_STRATEGIES:
        shown = one_line(str(name))
        near = difflib.get_close_matches(shown, BUILTIN_STRATEGIES, 1)
        hint = (
            f"did you mean {near[0]!r}?" if near else f"the strategies are {', '.join(BUILTIN_STRATEGIES)}."
        )
        raise UserError(f"There is no strategy {shown!r}; {hint}")
    kind = BUILTIN_STRATEGIES[name]
    assumed = {"attackers": attackers} if attackers and "attackers" in kind.__struct_fields__ else {}
    return make_part(f"strategy {name!r}", kind, {**assumed, **args}), ""


def _choice(given: Mapping[str, Any], *, is_object: bool) -> Choice:
    data, root = _path(given, "data"), _path(given, "data_root")
    names = given.get("classes", ())
    names = [part.strip() for part in names.split(",")] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
        raise OptionError("classes", f"classes is {one_line(repr(names))}, and a list of names is expected.")
    places = DataPlaces(
        root=root,
        download=_truth(given, "download"),
        own=data,
        classes=tuple(names),
    )
    if is_object:
        return Choice("file", "task", places)
    name = given.get("task")
    if not isinstance(name, str | os.PathLike | None):
        raise OptionError(
            "task", f"task is {one_line(repr(name))}, and the name of a task or a file is expected."
        )
    return choose(os.fspath(name) if name is not None else None, None, places)


def _path(given: Mapping[str, Any], name: str) -> Path | None:
    value = given.get(name)
    if not isinstance(value, str | os.PathLike | None):
        raise OptionError(name, f"{name} is {one_line(repr(value))}, and a path is expected.")
    return full(Path(value)) if value is not None else None


def _spec(choice: Choice, options: dict[str, Any], scheme: str | None, clients: int) -> RunSpec:
    """Return the specification of the run, whose strategy is still FedAvg."""
    given = dict(options)
    if "lr" in given:
        given["learning_rate"] = given.pop("lr")
    if "until" in given:
        with naming("until"):
            given["until"] = parse_until(str(given["until"]))
    if isinstance(given.get("personal"), str):
        given["personal"] = tuple(part.strip() for part in given["personal"].split(",") if part.strip())
    if choice.kind == "script":
        raise OptionError(
            "task",
            f"{choice.name} trains in a loop of its own, which a simulation cannot run: give a task file "
            "with model() and data().",
        )
    if scheme is not None:
        with naming("partition"):
            partition.parse(str(scheme))
    if choice.kind in ("builtin", "file"):
        given["partitions"] = clients
        if scheme is not None or choice.kind == "file":
            given["partition"] = scheme or "iid"
    try:
        return make_spec(choice, given)
    except UserError as error:
        text = str(error)
        if found := _OUT_OF_RANGE.match(text):
            name = found[1].replace("-", "_").partition("[")[0]
            values = get_args(get_type_hints(LocalTraining).get(name))
            wanted = f"one of {', '.join(values)}" if values else expectation(found[2])
            if name == "partitions":  # one for each client
                name, options = "clients", {"clients": clients}
            value = one_line(repr(options.get(name)))
            text = f"--{name.replace('_', '-')} is {value}, and {wanted} is expected."
        raise OptionError("task", text) from error


def _sample(given: Mapping[str, Any], clients: int) -> int:
    if "fraction" not in given:
        sample = _whole(given, "sample", 0, least=0)
        if sample > clients:
            raise OptionError(
                "sample", f"sample is {sample}, and there are {clients} clients; use at most {clients}."
            )
        return 0 if sample == clients else sample
    if "sample" in given:
        raise OptionError("fraction", "sample and fraction say the same; give one of them.")
    fraction = given["fraction"]
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise OptionError(
            "fraction", f"fraction is {fraction!r}, and a number above 0 and up to 1 is expected."
        )
    sample = max(1, int(fraction * clients + 0.5))
    return 0 if sample == clients else sample


def _attackers(given: Mapping[str, Any], clients: int) -> tuple[tuple[int, ...], AttackSpec | None]:
    """Return the clients that attack, and how; none and None without attackers."""
    count, name = given.get("attackers"), given.get("attack")
    if name == NO_ATTACK:
        return (), None
    if name is None:
        for option in ("attackers", "attack_args"):
            if given.get(option):
                raise OptionError(
                    "attack" if option == "attackers" else option,
                    f"{option} is given without attack; name one, such as attack='sign-flip'.",
                )
        return (), None
    with naming("attack"):
        attack = make_attack(str(name), _table(given, "attack_args"))
    if count is None:
        raise OptionError(
            "attack",
            f"attack {attack.__struct_config__.tag!r} is given without attackers; say how many clients "
            "attack, such as attackers=2.",
        )
    chosen = (
        _numbered(count, clients)
        if isinstance(count, Sequence) and not isinstance(count, str)
        else _first(given, clients)
    )
    return (chosen, attack) if chosen else ((), None)


def _numbered(numbers: Sequence[object], clients: int) -> tuple[int, ...]:
    """Return the clients with these *numbers*, ascending."""
    chosen = sorted({one for one in numbers if type(one) is int and 0 <= one < clients})
    if len(chosen) < len(numbers):
        raise OptionError(
            "attackers",
            f"attackers is {one_line(repr(list(numbers)))}, and different numbers of clients from 0 to "
            f"{clients - 1} are expected.",
        )
    _check_honest(len(chosen), clients)
    return tuple(chosen)


def _check_honest(attackers: int, clients: int) -> None:
    if attackers >= clients:
        raise OptionError(
            "attackers",
            f"attackers is {attackers}, and there are {clients} clients; use at most {clients - 1}, so that "
            "one is honest.",
        )


def _engine(given: Mapping[str, Any]) -> tuple[str, str]:
    """Return the engine, and the address of a Ray cluster."""
    engine, address = given.get("engine", "local"), given.get("ray_address", "")
    if engine not in ENGINES:
        raise OptionError(
            "engine", f"There is no engine {one_line(str(engine))!r}; the engines are {', '.join(ENGINES)}."
        )
    if not isinstance(address, str):
        raise OptionError(
            "ray_address",
            f"ray_address is {one_line(repr(address))}, and a text is expected, such as '10.0.0.1:6379' or "
            "'auto'.",
        )
    if address and engine != "ray":
        raise OptionError(
            "ray_address", f"ray_address is given, and the engine is {engine!r}; add engine='ray'."
        )
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise OptionError(
            "engine",
            "The engine 'ray' needs the package ray, which is not installed here: pip install "
            "'p2pfl-lan[ray]'.",
        )
    return engine, address


def _first(given: Mapping[str, Any], clients: int) -> tuple[int, ...]:
    """Return as many clients as attack: the first ones, or by the seed."""
    number = _whole(given, "attackers", 0, least=0)
    _check_honest(number, clients)
    how = given.get("choose_attackers", "first")
    if how == "first":
        return tuple(range(number))
    if how != "seed":
        raise OptionError(
            "choose_attackers", f"choose_attackers is {how!r}, and 'first' or 'seed' is expected."
        )
    from blake3 import blake3

    seed = given.get("seed", 1)
    order = sorted(range(clients), key=lambda one: blake3(f"attackers {seed} {one}".encode()).digest())
    return tuple(sorted(order[:number]))


def _whole(given: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    value = given.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(
            name, f"{name} is {one_line(repr(value))}, and a whole number from {least} on is expected."
        )
    return value


def _truth(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise OptionError(name, f"{name} is {one_line(repr(value))}, and true or false is expected.")
    return value


def _table(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name, {})
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise OptionError(
            name, f"{name} is {one_line(repr(value))}, and options by their names are expected."
        )
    return dict(value)
