from __future__ import annotations

from p2pfl.doctor.software import check_software


def test_a_missing_package_is_named() -> None:
    finding = check_software(["torch", "no-such-package"])
    assert finding.level == "FAIL"
    assert "not installed: no-such-package" in finding.text
