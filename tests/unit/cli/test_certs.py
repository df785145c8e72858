from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from p2pfl.cli.certs import RoleOption, app
from p2pfl.errors import CredentialsError
from p2pfl.identity.authority import create_authority, issue
from p2pfl.identity.credentials import load_credentials
from p2pfl.identity.names import ROLES
from tests.unit.identity.test_parent_authority import parent


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, so that the default `certs` is a test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    """Return what `p2pfl certs ARGUMENTS` prints; our own errors pass through, as they do to the main
    entry."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, CredentialsError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_init_and_issue_make_a_device_folder_and_say_what_comes_next(here: Path) -> None:
    assert "p2pfl certs issue NAME\n" in run("init", "--federation", "lab")
    said = run("issue", "ant")
    ant = load_credentials(here / "certs" / "ant")
    assert (ant.name, ant.role, ant.federation) == ("ant", "node", "lab")
    assert f"Issued ant (node, {ant.node_id[:7]}), until {ant.not_after:%Y-%m-%d}: certs/ant" in said
    assert "Copy this folder to the device" in said
    assert "p2pfl node --certs ant" in said


def test_another_folder_is_named_in_the_next_command() -> None:
    assert "p2pfl certs issue NAME --certs keys/lab" in run("init", "--certs", "keys/lab")
    assert "keys/lab/ant" in run("issue", "ant", "--certs", "keys/lab")


def test_an_operator_is_not_told_to_start_a_node(here: Path) -> None:
    run("init")
    said = run("issue", "boss", "--role", "operator")
    assert "p2pfl node" not in said
    assert (
        "It is for a person, to watch and command a node from elsewhere: p2pfl tui HOST:PORT --certs boss"
        in said
    )
    assert "to watch a node from elsewhere" in run("issue", "eve", "--role", "observer")
    assert load_credentials(here / "certs", "boss").role == "operator"


def test_every_role_can_be_chosen() -> None:
    assert tuple(role.value for role in RoleOption) == ROLES


def test_overwriting_needs_force(here: Path) -> None:
    run("init")
    run("issue", "ant")
    before = load_credentials(here / "certs", "ant")
    with pytest.raises(CredentialsError, match="--force"):
        run("init")
    with pytest.raises(CredentialsError, match="--force"):
        run("issue", "ant")
    assert load_credentials(here / "certs", "ant") == before
    run("issue", "ant", "--force")
    assert load_credentials(here / "certs", "ant").node_id != before.node_id


def test_renewing_keeps_the_node_id_and_says_what_to_copy(here: Path) -> None:
    run("init")
    run("issue", "ant", "--role", "observer")
    before = load_credentials(here / "certs", "ant")
    said = run("issue", "ant", "--renew")
    assert load_credentials(here / "certs", "ant").node_id == before.node_id
    assert "Renewed ant (observer" in said
    assert "Copy its node.crt" in said


@pytest.mark.parametrize("other", [["--force"], ["--role", "node"]])
def test_renewing_goes_with_neither_a_new_key_nor_a_new_role(other: list[str]) -> None:
    result = CliRunner().invoke(app, ["issue", "ant", "--renew", *other])
    assert result.exit_code == 2
    assert "--renew keeps key and role" in result.output


def test_show_lists_names_roles_expiry_and_node_ids(here: Path) -> None:
    run("init", "--federation", "lab")
    run("issue", "bee", "--role", "operator")
    run("issue", "ant")
    lines = run("show").splitlines()
    ant, bee = (load_credentials(here / "certs", name) for name in ("ant", "bee"))
    assert lines[0].startswith("Federation 'lab', CA valid until ")
    assert [line.split() for line in lines[1:]] == [
        ["NAME", "ROLE", "EXPIRES", "NODE", "ID"],
        ["ant", "node", f"{ant.not_after:%Y-%m-%d}", ant.node_id],
        ["bee", "operator", f"{bee.not_after:%Y-%m-%d}", bee.node_id],
    ]


def test_show_works_in_a_device_folder() -> None:
    run("init")
    run("issue", "ant")
    run("issue", "bee")
    lines = run("show", "--certs", "certs/bee").splitlines()
    assert lines[0].startswith("Federation 'p2pfl'")
    assert [line.split()[0] for line in lines[2:]] == ["bee"]


@pytest.mark.parametrize(
    ("days", "mark"), [(-400, "EXPIRED"), (-345, "in 19 days"), (5, "NOT VALID BEFORE ")]
)
def test_show_points_out_dates_that_need_care(here: Path, days: int, mark: str) -> None:
    now = datetime.now(UTC)
    create_authority(here / "certs", now=now - timedelta(days=500))
    issue(here / "certs", "ant", now=now + timedelta(days=days))
    assert mark in run("show")


def test_show_before_the_first_device_says_what_comes_next() -> None:
    run("init")
    assert "p2pfl certs issue NAME" in run("show")


def test_show_of_nothing_says_how_to_begin() -> None:
    with pytest.raises(
        CredentialsError, match=r"There are no certificates in certs\. Make a CA with `p2pfl certs init`"
    ):
        run("show")


def test_a_bad_name_is_refused() -> None:
    run("init")
    with pytest.raises(CredentialsError, match="'Ant' cannot be the name of a device"):
        run("issue", "Ant")


def test_importing_the_commands_loads_no_cryptography() -> None:
    code = "import sys, p2pfl.cli.certs; print(sorted({'cryptography', 'ssl', 'rich'} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_request_is_signed_and_accepted_and_every_step_names_the_next(here: Path) -> None:
    run("init", "--federation", "lab", "--certs", "ca")
    said = run("request", "ant")
    assert "certs/ant/node.csr" in said
    assert "p2pfl certs sign node.csr" in said
    assert "p2pfl certs accept ant.crt" in said
    said = run("sign", "certs/ant/node.csr", "--certs", "ca", "--role", "node", "--days", "2")
    assert "Signed ant (node, " in said
    assert "certs/ant/ant.crt" in said
    fingerprint = said.split()[-1]
    said = run("accept", "certs/ant/ant.crt")
    assert "Accepted ant (node, " in said
    assert f"The CA's fingerprint is {fingerprint}." in said
    assert "Start the node with: p2pfl node --certs certs/ant\n" in said
    assert "elsewhere, add --peers HOST:PORT" in said
    ant = load_credentials(here / "certs", "ant")
    assert timedelta(days=1) < ant.not_after - datetime.now(UTC) < timedelta(days=2)


def test_the_answer_goes_where_it_is_wanted(here: Path) -> None:
    run("init", "--certs", "ca")
    run("request", "ant")
    run("sign", "certs/ant/node.csr", "--certs", "ca", "--name", "bee", "--out", "bee.pem")
    assert (here / "bee.pem").is_file()
    assert (here / "ca" / "bee" / "node.crt").is_file()


def test_a_passphrase_protects_the_key_of_the_ca(here: Path) -> None:
    (here / "pass").write_text("four random words\n", encoding="utf-8")
    (here / "wrong").write_text("other random words\n", encoding="utf-8")
    run("init", "--passphrase-file", "pass")
    assert "ENCRYPTED" in (here / "certs" / "ca.key").read_text(encoding="utf-8")
    run("issue", "ant", "--passphrase-file", "pass")
    run("issue", "ant", "--renew", "--passphrase-file", "pass")
    with pytest.raises(CredentialsError, match="the passphrase is wrong, or the file damaged"):
        run("issue", "bee", "--passphrase-file", "wrong")
    with pytest.raises(CredentialsError, match="no terminal to enter it in"):
        run("issue", "bee")
    assert not (here / "certs" / "bee").exists()


@pytest.mark.parametrize("days", ["0", "-1", "40000"])
def test_days_out_of_range_are_refused(days: str) -> None:
    result = CliRunner().invoke(app, ["init", f"--days={days}"])
    assert result.exit_code == 2
    assert "--days" in result.output


def test_days_bound_the_ca_and_a_renewal_keeps_the_length_of_a_life(here: Path) -> None:
    run("init", "--days", "30")
    run("issue", "ant", "--days", "10")
    first = load_credentials(here / "certs", "ant")
    said = run("issue", "ant", "--renew")
    second = load_credentials(here / "certs", "ant")
    assert timedelta() <= second.not_after - first.not_after < timedelta(hours=1)
    assert "takes it with SIGHUP" in said
    run("issue", "ant", "--renew", "--days", "90")
    assert load_credentials(here / "certs", "ant").not_after - datetime.now(UTC) < timedelta(days=30)


def test_a_certificate_of_minutes_is_told_with_its_time(here: Path) -> None:
    run("init")
    assert "UTC: certs/ant" in run("issue", "ant", "--days", "0.01")
    assert "in 14 minutes" in run("show")


@pytest.mark.parametrize("given", [["--ca-cert", "x"], ["--ca-key", "x"], ["--ca-passphrase-file", "x"]])
def test_the_files_of_an_existing_ca_go_together(given: list[str]) -> None:
    result = CliRunner().invoke(app, ["init", *given])
    assert result.exit_code == 2
    assert "--ca-cert and --ca-key go together" in result.output


def test_an_existing_ca_signs_that_of_the_federation(here: Path) -> None:
    certificate, key = parent(here)
    said = run("init", "--federation", "lab", "--ca-cert", str(certificate), "--ca-key", str(key))
    assert f"Made the CA of the federation 'lab' in certs, below the CA in {certificate}." in said
    run("issue", "ant")
    assert load_credentials(here / "certs", "ant").federation == "lab"


def test_an_existing_ca_of_a_federation_is_used_with_its_name_and_its_dates(here: Path) -> None:
    create_authority(here / "old", "lab")
    words = ["--ca-cert", "old/ca.crt", "--ca-key", "old/ca.key"]
    assert "Stored the CA of the federation 'lab' in certs." in run("init", *words)
    assert (here / "certs" / "ca.crt").read_bytes() == (here / "old" / "ca.crt").read_bytes()
    for more, told in [(["--days", "3"], "has its dates"), (["--federation", "x"], "federation 'lab'")]:
        result = CliRunner().invoke(app, ["init", "--certs", "other", *words, *more])
        assert result.exit_code == 2
        assert told in result.output
