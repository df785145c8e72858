from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.doctor.subject import Subject
from p2pfl.doctor.table import CHECKS, examine
from p2pfl.net.transport.addresses import parse_address
from tests.support.federation import make_federation
from tests.support.meshes import FAST, lab


async def test_later_checks_see_what_earlier_ones_learned(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "ca", "ant", "bee")
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        subject = Subject(
            federation["ant"].directory,
            host="127.0.0.1",
            port=0,
            addresses=(parse_address(bee.address),),
            data_dir=tmp_path / "data",
            mdns=False,
            settings=FAST,
        )
        found = [(check.name, finding.level) async for check, finding in examine(subject)]
    assert found == [
        ("software", "ok"),
        ("certificate", "ok"),
        ("port", "ok"),
        ("files", "ok"),
        ("disk", "ok"),
        ("data", "ok"),
        ("data", "ok"),
        ("peers", "ok"),
        ("way", "ok"),
    ]
    assert subject.credentials is not None


@pytest.mark.parametrize(
    ("only", "told"),
    [
        ({"peers", "way"}, ["peers", "way"]),
        ({"way"}, ["way"]),
        ({"links"}, ["links"]),
        ({"disk"}, ["disk"]),
    ],
)
async def test_what_chosen_checks_need_is_looked_at_but_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: set[str], told: list[str]
) -> None:
    monkeypatch.setattr("p2pfl.store.directory.user_data", lambda name: tmp_path / name)
    federation = make_federation(tmp_path / "ca", "ant", "bee", "cat")
    async with lab(tmp_path) as opened:
        bee = await opened.start(federation["bee"])
        await opened.start(federation["cat"], peers=(bee.address,))
        await bee.told.until(lambda told: told.names == {"cat"})
        subject = Subject(
            federation["ant"].directory,
            host="127.0.0.1",
            port=0,
            addresses=(parse_address(bee.address),),
            settings=FAST,
        )
        found = [(check.name, finding.level) async for check, finding in examine(subject, only)]
    assert found == [(name, "ok") for name in told]


@pytest.mark.parametrize(("certs", "why"), [("nowhere", "certificate"), ("ca/ant", "peers")])
async def test_a_failure_that_leaves_nothing_to_look_at_is_told(tmp_path: Path, certs: str, why: str) -> None:
    make_federation(tmp_path / "ca", "ant")
    nobody = parse_address("127.0.0.1:1")
    subject = Subject(tmp_path / certs, host="127.0.0.1", port=0, addresses=(nobody,), settings=FAST)
    found = [(check.name, finding.level) async for check, finding in examine(subject, {"way"})]
    assert found == [(why, "FAIL")]


def test_checks_need_only_earlier_ones() -> None:
    names = [check.name for check in CHECKS]
    assert all(set(check.needs) <= set(names[:place]) for place, check in enumerate(CHECKS))


async def test_without_a_certificate_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    subject = Subject(tmp_path, host="127.0.0.1", port=0, addresses=(parse_address("x:1"),), mdns=False)
    found = [(check.name, finding.level) async for check, finding in examine(subject)]
    assert [name for name, level in found if level == "FAIL"] == ["certificate"]
    assert ("disk", "warn") in found
    assert ("peers", "warn") in found


def test_each_check_has_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
