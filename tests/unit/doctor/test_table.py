from __future__ import annotations

from pathlib import Path

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


async def test_without_a_certificate_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    subject = Subject(tmp_path, host="127.0.0.1", port=0, addresses=(parse_address("x:1"),), mdns=False)
    found = [(check.name, finding.level) async for check, finding in examine(subject)]
    assert [name for name, level in found if level == "FAIL"] == ["certificate"]
    assert ("disk", "warn") in found
    assert ("peers", "warn") in found


def test_each_check_has_a_name_of_its_own() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
