"""The checks in their order. A check is one entry of the table; it sees what earlier ones have learned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import NamedTuple

from p2pfl.doctor.certificate import check_authority, check_certificate, check_exclusion, check_modes
from p2pfl.doctor.data import check_task, survey_data
from p2pfl.doctor.disk import check_disk, data_dir_of
from p2pfl.doctor.files import check_files, hard_limit
from p2pfl.doctor.finding import Finding
from p2pfl.doctor.links import check_links
from p2pfl.doctor.mdns import check_mdns
from p2pfl.doctor.peers import check_peers
from p2pfl.doctor.port import check_port
from p2pfl.doctor.running import check_running
from p2pfl.doctor.software import check_software
from p2pfl.doctor.subject import Subject
from p2pfl.doctor.way import check_ways

Run = Callable[[Subject], AsyncIterator[Finding]]


class Check(NamedTuple):
    """One check."""

    name: str
    """One word, for programs."""
    run: Run
    needs: tuple[str, ...] = ()
    """Earlier checks whose results it uses."""


async def _software(_: Subject) -> AsyncIterator[Finding]:
    yield check_software()


async def _certificate(subject: Subject) -> AsyncIterator[Finding]:
    subject.credentials, finding = check_certificate(subject.certs, subject.name)
    yield finding
    if subject.credentials is not None:
        for found in (
            check(subject.credentials) for check in (check_authority, check_modes, check_exclusion)
        ):
            if found is not None:
                yield found


async def _port(subject: Subject) -> AsyncIterator[Finding]:
    finding, subject.is_running = await check_port(subject.host, subject.port, subject.credentials)
    yield finding


async def _files(subject: Subject) -> AsyncIterator[Finding]:
    yield check_files(len(subject.addresses), hard_limit())


async def _disk(subject: Subject) -> AsyncIterator[Finding]:
    place = data_dir_of(subject.data_dir, subject.credentials)
    yield place if isinstance(place, Finding) else check_disk(place, is_running=subject.is_running)


async def _running(subject: Subject) -> AsyncIterator[Finding]:
    if subject.credentials is not None:
        found = check_running(subject.credentials, subject.data_dir, subject.port)
        if found is not None:
            yield found


async def _data(subject: Subject) -> AsyncIterator[Finding]:
    yield check_task(subject.task, subject.places)
    yield survey_data(subject.places)


async def _mdns(subject: Subject) -> AsyncIterator[Finding]:
    if subject.mdns:
        yield await check_mdns(subject.credentials, subject.port)


async def _links(subject: Subject) -> AsyncIterator[Finding]:
    own = subject.credentials.node_id if subject.credentials is not None else ""
    for finding in check_links(subject.reached, own):
        yield finding


CHECKS = (
    Check("software", _software),
    Check("certificate", _certificate),
    Check("port", _port, ("certificate",)),
    Check("files", _files),
    Check("disk", _disk, ("certificate", "port")),
    Check("running", _running, ("certificate",)),
    Check("data", _data),
    Check("mdns", _mdns, ("certificate",)),
    Check("peers", check_peers, ("certificate", "port")),
    Check("way", check_ways, ("peers",)),
    Check("links", _links, ("way",)),
)
"""All checks, in their order."""

GATES = ("certificate", "peers", "way")
"""Checks whose failure leaves nothing to look at for those that need them."""


async def examine(subject: Subject, only: Collection[str] = ()) -> AsyncIterator[tuple[Check, Finding]]:
    """Run every check on *subject*, and yield each finding at once: a peer that is silent takes a while.

    With *only*, no others than those with these names, and those that they need. Of the latter, only a
    failure is yielded that leaves nothing to look at.
    """
    wanted = _with_needed(only) if only else {check.name for check in CHECKS}
    for check in CHECKS:
        if check.name not in wanted:
            continue
        async for finding in check.run(subject):
            if not only or check.name in only or (check.name in GATES and finding.level == "FAIL"):
                yield check, finding


def _with_needed(names: Collection[str]) -> set[str]:
    """Return *names* and the names of all checks that those need."""
    wanted = set(names)
    for check in reversed(CHECKS):  # a check needs only earlier ones
        if check.name in wanted:
            wanted.update(check.needs)
    return wanted
