"""The options of a node, as the command line and `p2pfl.Node` give them, made into its configuration.

Nothing here belongs to a terminal: log, signals and standard input are the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, get_type_hints

import msgspec

from p2pfl.discovery.interfaces import check_interfaces
from p2pfl.errors import UserError
from p2pfl.identity.credentials import check_is_node, load_credentials
from p2pfl.learning import catalogue
from p2pfl.learning.choice import Choice, choose, make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import WorkerSettings
from p2pfl.learning.strategy_choice import StrategyChoice, choose_strategy
from p2pfl.monitoring.endpoint import parse_metrics
from p2pfl.net.transport.addresses import parse_listen
from p2pfl.paths import full
from p2pfl.runtime.node_config import LEAVE_WITHIN, LanSettings, NodeConfig, ScriptSettings
from p2pfl.spec import MAX_ROSTER, SHARES, RunSpec, Share, task_name
from p2pfl.store.directory import default_data_dir
from p2pfl.strategy_specs import least_updates, strategy_name
from p2pfl.text import one_line
from p2pfl.tracking.targets import parse_target

if TYPE_CHECKING:
    Place = str | os.PathLike[str]
    Names = str | Sequence[str]
    Values = Names | Mapping[str, float]
else:  # what the texts become
    Place = Path
    Names = Values = tuple[str, ...]


class NodeOptions(TypedDict, total=False):
    """The options of a node: those of `p2pfl node`, with underscores; its `--help` explains each.

    One that is left out has its default. Lists are lists of texts, or one text with commas. Values are a list
    of texts such as "server_lr=0.1", or a dictionary.
    """

    certs: Place
    name: str
    peers: Names
    listen: str
    advertise: Names
    data_dir: Place
    no_mdns: bool
    interface: Names
    min_nodes: int
    wait: bool
    new_run: bool
    new_journal: bool
    stay: bool
    leave_within: float
    ca: Place
    passphrase_file: Place
    no_renew: bool
    save_dir: Place
    continue_with: Names
    device: str
    threads: int
    data_root: Place
    download: bool
    pace: float
    data: Place
    classes: Names
    workers: int
    script: Place
    arguments: Names
    track: Names
    metrics: str
    task: str
    target: str
    target_kind: str
    share: str
    holdout: float
    image_size: int
    augment: bool
    model: str
    rounds: int
    epochs: int
    steps: int
    until: str
    patience: int
    optimizer: str
    schedule: str
    clip: float
    precision: str
    class_weights: bool
    deadline: float
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    partition: str
    partitions: int
    strategy: str
    strategy_arg: Values
    sample: int
    fraction: float
    sample_by: str
    min_updates: int
    round_cap: float
    drop_after: float
    personal: Names
    personalise: int
    lora: Names
    lora_target: Names
    lora_train: Names
    seed: int


RUN_OPTIONS = (
    "task", "target", "target_kind", "share", "holdout", "image_size", "augment", "model", "rounds", "epochs",
    "steps", "until", "patience", "optimizer", "schedule", "clip", "precision", "class_weights", "deadline",
    "batch_size", "lr", "momentum", "weight_decay", "partition", "partitions", "strategy", "strategy_arg",
    "sample", "fraction", "sample_by", "min_updates", "round_cap", "drop_after", "personal", "personalise",
    "lora", "lora_target", "lora_train", "seed",
)  # fmt: skip
"""The options that are part of the run, which all its members share."""


LISTS = frozenset(name for name, kind in get_type_hints(NodeOptions).items() if kind == Names)
"""The options that are lists of texts."""


def configure(options: NodeOptions, *, token: str = "") -> NodeConfig:
    """Return the configuration that *options* mean; those that are in it count as given by the operator.

    *token* is what a program shows that trains in place of a script (`--script=-`).

    Raises:
        UserError: an option is of no use or out of its range, or a file, certificate or package is missing.
    """
    checked = checked_options(options)
    strategy = choose_strategy(checked.get("strategy"), checked.get("strategy_arg", ()))
    given = _given(checked, strategy)
    places = DataPlaces(
        root=_full(checked.get("data_root")),
        download=checked.get("download", False),
        own=_full(checked.get("data")),
        classes=checked.get("classes", ()),
        share=parse_share(checked.get("share")),
        loader_workers=checked.get("workers", 0),
        strategy=strategy.code,
    )
    choice = choose(checked.get("task"), checked.get("script"), places)
    spec = make_spec(choice, given)
    min_nodes = checked.get("min_nodes")
    check_min_nodes(min_nodes)
    check_least_updates(spec, min_nodes)
    track = tuple(parse_target(text) for text in checked.get("track", ()))
    if choice.kind == "builtin" and not places.download:
        catalogue.find_data(choice.name, places)  # says now what the worker would say when it has torch
    credentials = load_credentials(checked.get("certs", Path("certs")), checked.get("name"))
    check_is_node(credentials)
    continue_with = checked.get("continue_with")
    return NodeConfig(
        credentials=credentials,
        data_dir=checked.get("data_dir") or default_data_dir(credentials.name),
        spec=spec,
        given=frozenset(given),
        peers=checked.get("peers", ()),
        listen=parse_listen(checked.get("listen", "9000")),
        advertise=checked.get("advertise", ()),
        partitions=checked.get("partitions", 0),
        min_nodes=min_nodes,
        lan=_lan_settings(checked),
        wait=checked.get("wait", False),
        new_run=checked.get("new_run", False),
        new_journal=checked.get("new_journal", False),
        stay=checked.get("stay", False),
        leave_within=checked.get("leave_within", LEAVE_WITHIN),
        ca=_full(checked.get("ca")),
        passphrase_file=_full(checked.get("passphrase_file")),
        renews=not checked.get("no_renew", False),
        save_dir=_full(checked.get("save_dir")),
        continue_with=frozenset(continue_with) if continue_with is not None else None,
        worker=WorkerSettings(
            device=checked.get("device", "auto"),
            threads=checked.get("threads", 0),
            places=msgspec.structs.replace(choice.places, task=(choice.kind, task_name(spec.task))),
            pace=checked.get("pace", 0.0),
        ),
        script=_script_settings(choice, checked.get("arguments", ()), token),
        track=track,
        metrics=parse_metrics(checked["metrics"]) if "metrics" in checked else None,
    )


def _lan_settings(checked: Mapping[str, Any]) -> LanSettings:
    """Return how the node takes part in discovery.

    Raises:
        UserError: this device has no interface with a name of --interface.
    """
    names, is_on = tuple(checked.get("interface", ())), not checked.get("no_mdns", False)
    if names and not is_on:
        raise UserError(
            "--interface says where mDNS is used, and --no-mdns that it is not: give one of them."
        )
    check_interfaces(names)
    return LanSettings(is_on, names)


def parse_share(text: str | None) -> Share:
    """Return the value of `--share`.

    Raises:
        UserError: it is none of those that there are.
    """
    found = next((one for one in SHARES if one == (text or "labels")), None)
    if found is None:
        raise UserError(f"--share is {text!r}, and one of {', '.join(SHARES)} is expected.")
    return found


def parse_until(text: str) -> dict[str, Any]:
    """Return the target of `--until`, such as accuracy=0.95.

    Raises:
        UserError: *text* is no metric with a number.
    """
    metric, _, value = text.partition("=")
    try:
        return {"metric": metric.strip(), "value": float(value)}
    except ValueError:
        raise UserError(
            f"--until is {text!r}, and a metric with a number is expected, such as accuracy=0.95."
        ) from None


def parse_lora(values: Sequence[str], target: Sequence[str], train: Sequence[str]) -> dict[str, Any]:
    """Return the adapters of `--lora rank=8`, `--lora-target` and `--lora-train`; empty without any.

    Raises:
        UserError: a value is none, or adapters have no target.
    """
    if not (values or target or train):
        return {}
    if not target:
        raise UserError("--lora needs the layers that get adapters: name them with --lora-target 'attn.*'.")
    result: dict[str, Any] = {"target": tuple(target), "train": tuple(train)}
    for text in ",".join(values).split(","):
        if not text:
            continue
        name, _, value = text.partition("=")
        kind = {"rank": int, "alpha": float}.get(name.strip())
        try:
            if kind is None:
                raise ValueError
            result[name.strip()] = kind(value)
        except ValueError:
            raise UserError(
                f"--lora is {text!r}, and rank=NUMBER or alpha=NUMBER is expected, such as rank=8."
            ) from None
    return result


def check_min_nodes(min_nodes: int | None) -> None:
    """Refuse a number of nodes that no run can have.

    Raises:
        UserError: it is none.
    """
    if min_nodes is not None and not 1 <= min_nodes <= MAX_ROSTER:
        raise UserError(
            f"--min-nodes is {min_nodes}, and a run has 1 to {MAX_ROSTER} nodes: give how many must be there "
            "before it starts, this device included."
        )


def check_least_updates(spec: RunSpec, min_nodes: int | None) -> None:
    """Refuse a number of nodes with which the strategy of *spec* could aggregate in no round.

    Raises:
        UserError: it needs more updates than *min_nodes* nodes give.
    """
    least, name = least_updates(spec.strategy), strategy_name(spec.strategy)
    needs = f"The strategy {name} needs the updates of at least {least} nodes in each round"
    if min_nodes is not None and min_nodes < least:
        raise UserError(
            f"{needs}, and --min-nodes is {min_nodes}: give --min-nodes {least} or more, or another strategy."
        )


def _given(options: Mapping[str, Any], strategy: StrategyChoice) -> dict[str, Any]:
    """Return the options of the run that the operator gave; False and 0 parts are as if not given."""
    given = {name: options[name] for name in RUN_OPTIONS if name in options} | dict(strategy.options)
    for name in ("augment", "class_weights", "partitions"):
        if not given.get(name, True):
            del given[name]
    if "lr" in given:
        given["learning_rate"] = given.pop("lr")
    if lora := parse_lora(*(given.pop(name, ()) for name in ("lora", "lora_target", "lora_train"))):
        given["lora"] = lora
    if "until" in given:
        given["until"] = parse_until(given["until"])
    return given


def checked_options(options: NodeOptions) -> dict[str, Any]:
    """Return *options* without those that are None, each as the type of its annotation.

    Raises:
        UserError: there is no such option, or its value is of another type.
    """
    given: dict[str, Any] = dict(options)
    plain = {name: _plain(name, value) for name, value in given.items() if value is not None}
    if unknown := sorted(plain.keys() - NodeOptions.__annotations__.keys()):
        raise UserError(f"A node has no option {unknown[0]!r}; `p2pfl node --help` lists all of them.")
    try:
        return dict(msgspec.convert(plain, NodeOptions, dec_hook=_to_path))
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`").partition("[")[0]
        shown = one_line(repr(given.get(name)))
        raise UserError(f"The option {name} is {shown}: {what[0].lower()}{what[1:]}.") from error


def _plain(name: str, value: object) -> object:
    """Return *value* with paths as texts, and as a list of texts where the option *name* is one."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if name not in LISTS:
        return value
    if isinstance(value, Mapping):
        return tuple(f"{key}={one}" for key, one in value.items())
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, Sequence) else value


def _to_path(_kind: type, value: object) -> Path:
    if not isinstance(value, str):
        raise TypeError(f"a path is expected, not {type(value).__name__}")
    return Path(value)


def _full(path: Path | None) -> Path | None:
    return None if path is None else full(path)


def _script_settings(choice: Choice, arguments: tuple[str, ...], token: str) -> ScriptSettings | None:
    """Return how the script of *choice* trains, or the program that shows *token*; None if it is no script.

    Raises:
        UserError: there are arguments, and no script.
    """
    script, share = choice.places.code, choice.places.share
    if choice.kind == "script" and script:
        return ScriptSettings((script, *arguments), share=share)
    if arguments:
        raise UserError(
            f"{arguments[0]!r} is no option of `p2pfl node`; only a script (--script FILE) has arguments."
        )
    return ScriptSettings((), token, share) if choice.kind == "script" else None
