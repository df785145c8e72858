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
    Check("port", _port),
    Check("files", _files),
    Check("disk", _disk),
    Check("running", _running),
    Check("data", _data),
    Check("mdns", _mdns),
    Check("peers", check_peers),
    Check("way", check_ways),
    Check("links", _links),
)
"""All checks, in their order."""


async def examine(subject: Subject, only: Collection[str] = ()) -> AsyncIterator[tuple[Check, Finding]]:
    """Run every check on *subject*, and yield each finding at once: a peer that is silent takes a while.

    With *only*, no others than those with these names.
    """
    for check in CHECKS:
        if only and check.name not in only:
            continue
        async for finding in check.run(subject):
            yield check, finding
