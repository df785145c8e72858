"""Checks whether the data of the task are on this device."""

from __future__ import annotations

from p2pfl.doctor.finding import Finding
from p2pfl.errors import TaskError
from p2pfl.learning import catalogue
from p2pfl.learning.data import DataPlaces


def check_task(name: str, places: DataPlaces) -> Finding:
    """Check whether the task is known and its data are on this device."""
    try:
        entry = catalogue.find(name)
        paths = catalogue.find_data(name, places)
        size = sum(path.stat().st_size for path in paths)
    except TaskError as error:
        return Finding("FAIL", str(error))
    except OSError as error:
        return Finding("FAIL", f"the data of the task {name!r} cannot be read: {error.strerror or error}")
    return Finding("ok", f"task {entry.name}: {entry.summary} ({size:,} bytes in {paths[0].parent})")


def survey_data(places: DataPlaces) -> Finding:
    """Report the tasks whose data are here: a run that another device founded may need any of them."""
    here, missing = [], []
    for name in catalogue.CATALOGUE:
        try:
            catalogue.find_data(name, places)
        except TaskError:
            missing.append(name)
        else:
            here.append(name)
    text = f"data here: {', '.join(here)}"
    if missing:
        text += f"; not here: {', '.join(missing)} (a node gets them with --download)"
    return Finding("ok", text)
