"""Reads the file of an experiment: options of every run, and lists of which each combination is run."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from p2pfl.errors import UserError
from p2pfl.experiment.options import NAMES, NO_ATTACK, OptionError, hint_for, make_run
from p2pfl.learning.simulation.simulated import SimulatedRun
from p2pfl.paths import full, shown
from p2pfl.strategy_specs import DittoSpec
from p2pfl.text import one_line

SECTIONS = ("experiment", "grid")

NAMED = ("strategy", "attack")
"""Options whose value may be a table: a name and the options of what it names."""

PATHS = ("data", "data_root")
"""Options that are paths, relative to the folder of the file."""

MAX_RUNS = 10_000
"""Maximum number of runs of an experiment."""

Settings = dict[str, str]
"""The values of one run in the lists of the grid, as texts by the name of the option."""


class PlannedRun(msgspec.Struct, frozen=True):
    """One run of an experiment."""

    settings: Settings
    """What distinguishes it from the others, "seed" included if it is in the grid."""
    run: SimulatedRun

    @property
    def label(self) -> str:
        """The settings for people: "strategy=fedavg, seed=1"."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items()) or "the only run"

    @property
    def group(self) -> tuple[tuple[str, str], ...]:
        """The settings without the seed: runs that are equal in these are averaged."""
        return tuple((name, value) for name, value in self.settings.items() if name != "seed")


class ExperimentPlan(msgspec.Struct, frozen=True):
    """All runs of an experiment."""

    path: Path
    varied: tuple[str, ...]
    """The options in the grid."""
    runs: tuple[PlannedRun, ...]


def read_experiment(path: Path, replaced: Mapping[str, Any] | None = None) -> ExperimentPlan:
    """Read the experiment in the file *path*; the options *replaced* are those of every run.

    Raises:
        UserError: it cannot be read, or an option in it is wrong; the message names file and key.
    """
    sections = _parsed(path)
    for name in sections:
        if name not in SECTIONS:
            raise UserError(
                f"{shown(path)}, [{one_line(name)}]: there is no such section; the sections are "
                "[experiment] and [grid]."
            )
    if not sections:
        raise UserError(
            f"{shown(path)} is empty; `p2pfl experiment new FILE` writes an experiment to begin with."
        )
    base, grid = (_section(path, sections, name) for name in SECTIONS)
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(
                f"{shown(path)}, [grid] {name}: {one_line(repr(values))} is no list; write the values to "
                f"try, such as {name} = [...]."
            )
        if name in base:
            raise UserError(f"{shown(path)}, [grid] {name}: [experiment] has {name} too; keep one of them.")
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MAX_RUNS:
        raise UserError(
            f"{shown(path)}, [grid]: the lists have {count} combinations, and {MAX_RUNS} are possible; make "
            "them shorter."
        )
    return ExperimentPlan(path, tuple(grid), tuple(_planned(path, base, grid, replaced or {})))


def _planned(
    path: Path, base: Mapping[str, Any], grid: Mapping[str, list[Any]], replaced: Mapping[str, Any]
) -> list[PlannedRun]:
    """Return a run for each combination; equal ones, such as those without attackers, once."""
    planned: dict[str, PlannedRun] = {}
    tolerated = _most_attackers(base, grid)
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        try:
            run = make_run(options_of(path, {**base, **chosen, **replaced}), tolerated=tolerated)
        except OptionError as error:
            name = error.option.removesuffix("_args")
            section = "grid" if name in grid else "experiment"
            raise UserError(f"{shown(path)}, [{section}] {name}: {error}") from error
        settings = {name: _text(value) for name, value in chosen.items()}
        if run.attack is None:
            settings = {name: NO_ATTACK if name == "attack" else value for name, value in settings.items()}
            settings = {name: "0" if name == "attackers" else value for name, value in settings.items()}
        if isinstance(run.spec.strategy, DittoSpec):
            settings = {name: "0" if name == "personalise" else value for name, value in settings.items()}
        planned.setdefault(run.to_text(), PlannedRun(settings, run))
    return list(planned.values())


def _most_attackers(base: Mapping[str, Any], grid: Mapping[str, list[Any]]) -> int:
    """Return the largest number of attackers of any run: runs without them are compared with those."""
    counts = [
        len(one) if isinstance(one, list) else one
        for one in (base.get("attackers"), *grid.get("attackers", ()))
    ]
    return max((one for one in counts if isinstance(one, int)), default=0)


def options_of(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return *options* as `make_run` takes them."""
    given = dict(options)
    for name in NAMED:
        value = given.get(name)
        if isinstance(value, Mapping):
            if "name" not in value:
                raise OptionError(name, f'{one_line(repr(value))} has no name; write {{ name = "..." }}.')
            more = given.get(f"{name}_args", {})
            if not isinstance(more, Mapping):
                raise OptionError(
                    f"{name}_args",
                    f"{one_line(repr(more))} is given, and options by their names are expected.",
                )
            given[name] = value["name"]
            given[f"{name}_args"] = {
                **more,
                **{key: one for key, one in value.items() if key != "name"},
            }
    if given.get("strategy") == "ditto":  # it adapts the model in a way of its own
        given.pop("personalise", None)
    folder = full(path).parent
    for name in PATHS:
        if isinstance(given.get(name), str):
            given[name] = str(folder / given[name])
    for name in ("task", "strategy"):
        value = given.get(name)
        if isinstance(value, str) and (value.endswith(".py") or ".py:" in value):
            given[name] = str(folder / value)
    return given


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UserError(
            f"The experiment {shown(path)} cannot be read: {error.strerror}; `p2pfl experiment new FILE` "
            "writes one to begin with."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{shown(path)} is no TOML file: {one_line(str(error))}; correct that place."
        ) from error


def _section(path: Path, sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = sections.get(name, {})
    if not isinstance(found, dict):
        raise UserError(f"{shown(path)}, {name}: it is no section; write [{name}] on a line of its own.")
    for key in found:
        if key not in NAMES:
            hint = "give --track to the command instead." if key == "track" else hint_for(key)
            raise UserError(f"{shown(path)}, [{name}] {one_line(key)}: there is no such option; {hint}")
    return found


def _text(value: Any) -> str:
    """Return *value* of an option for a column: "fedavg", "multi-krum keep=5", "head.* bn*"."""
    if isinstance(value, list):
        return " ".join(map(_text, value)) or "none"
    if isinstance(value, Mapping):
        rest = " ".join(f"{key}={_text(one)}" for key, one in value.items() if key != "name")
        return f"{value.get('name', '')} {rest}".strip()
    return one_line(str(value))
