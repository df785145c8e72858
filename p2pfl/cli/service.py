"""`p2pfl service`: a node that systemd starts, restarts where that helps, and stops politely."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfl.cli.options import GroupedCommand
from p2pfl.cli.settings import PASSED_ON, passed_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfl.cli.service_unit import SystemdService
    from p2pfl.runtime.node_config import NodeConfig

HELP = "Run the node of this device as a service of systemd."

SYSTEM_UNITS = Path("/etc/systemd/system")

STATE = "/var/lib"
"""Where systemd makes the folders of `StateDirectory`."""

MANAGED = Path("/run/systemd/system")
"""Exists where systemd manages the system, see sd_booted(3)."""

TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - they are refused
"""Folders of which a service has its own, empty ones (`PrivateTmp`)."""

LINGER = Path("/var/lib/systemd/linger")
"""Has a file for each user whose services run also while the user is not logged in."""

NOT_LINUX = (
    "services are made for systemd, which this system does not have: launchd of macOS is not supported, so "
    "write an agent that runs `p2pfl node` (ProgramArguments, KeepAlive), or keep it running with nohup"
)

FORBIDS_NAMESPACES = {
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
    "/proc/sys/user/max_user_namespaces": "0",
}
"""Settings of the kernel with which a user's own manager cannot protect files."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True, help=HELP)

SystemOption = Annotated[
    bool, typer.Option("--system", help="A service of the system, in place of one of this user.")
]
NameArgument = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="The name of the node (default: your only service).")
]


@app.command("install", cls=GroupedCommand, context_settings=PASSED_ON)
def install(
    context: typer.Context,
    system: SystemOption = False,
    user: Annotated[
        str | None,
        typer.Option("--as", metavar="USER", help="Who runs it, with --system (default: who called sudo)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the unit, and change nothing.")] = False,
    no_start: Annotated[bool, typer.Option("--no-start", help="Start it at the next boot only.")] = False,
) -> None:
    """Write the unit of this device's node, enable it and start it.

    It takes the options of 'p2pfl node', and those in p2pfl.toml; a change of that file holds from the next
    restart of the service.
    """
    from p2pfl.cli.service_unit import unit_name, unit_text
    from p2pfl.errors import UserError
    from p2pfl.store.durable import disk_errors, make_folder

    if user is not None and not system:
        raise UserError("--as goes with --system: a service of this user runs as this user")
    service = _service(passed_on(context), _system_user(user) if system else None)
    text = unit_text(service)
    if dry_run:
        typer.echo(text, nl=False)
        return
    _check_systemd()
    _check_places(service)
    path = _units(system=system) / unit_name(service.name)
    for folder in service.writable:
        _make_writable(folder, service.user)
    with disk_errors("write", path):
        make_folder(path.parent)
        path.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {path}.")
    _systemctl(["daemon-reload"], system=system)
    _systemctl(["enable", *([] if no_start else ["--now"]), path.name], system=system)
    typer.echo(f"{path.name} is enabled{'' if no_start else ' and runs'}.")
    scope = "" if system else "--user "
    typer.echo(f"Its log: journalctl {scope}-u {path.name} -f")
    if not system and not (LINGER / _own_name()).exists():
        typer.echo("It ends when you log out. To keep it, and to start it at boot: loginctl enable-linger")


@app.command("uninstall", cls=GroupedCommand)
def uninstall(name: NameArgument = None, system: SystemOption = False) -> None:
    """Stop the service and remove its unit; the data directory stays."""
    from p2pfl.store.durable import disk_errors

    path = _find(name, system=system)
    _check_systemd()
    _systemctl(["disable", "--now", path.name], system=system)
    with disk_errors("remove", path):
        path.unlink()
    _systemctl(["daemon-reload"], system=system)
    typer.echo(f"Removed {path}. The node has left its run; its data directory stays where it is.")


@app.command("status", cls=GroupedCommand)
def status(name: NameArgument = None, system: SystemOption = False) -> None:
    """Show whether the service runs, and the last lines of its log."""
    from p2pfl.exit_codes import ExitCode

    path = _find(name, system=system)
    _check_systemd()
    words = ["systemctl", *([] if system else ["--user"]), "--no-pager", "--lines=10", "status", path.name]
    done = subprocess.run(words, check=False)  # noqa: S603 - no shell
    raise typer.Exit(ExitCode.COMPLETE if done.returncode == 0 else ExitCode.FAILED)


def _service(words: Sequence[str], user: str | None) -> SystemdService:
    """Return the service of a node with the arguments *words*, for *user* (None: this one).

    Raises:
        UserError: such a node could not start, or not as a service.
    """
    from typing import cast

    from p2pfl.cli.option_values import options_of
    from p2pfl.cli.options import is_given
    from p2pfl.cli.service_unit import SystemdService
    from p2pfl.cli.settings import sources_in_errors
    from p2pfl.programs import PACKAGE_ROOT, PYTHON
    from p2pfl.runtime.configure import NodeOptions, configure

    node = _checked_context(words)
    given = {one.name: node.params[one.name] for one in options_of(node.command) if is_given(node, one.name)}
    wanted = {name: value for name, value in given.items() if name in NodeOptions.__annotations__}
    with sources_in_errors(node):
        config = configure(cast("NodeOptions", wanted))
    state = ""
    added = []
    if user is not None and "data_dir" not in given:
        state = f"p2pfl/{config.credentials.name}"
        added = [f"--data-dir={STATE}/{state}"]
    if user is not None:
        _check_readable(config, user)
    search = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    is_found_there = str(PACKAGE_ROOT) in search
    return SystemdService(
        name=config.credentials.name,
        federation=config.credentials.federation,
        words=[*PYTHON, "p2pfl", "node", *added, *_own_words(node)],
        folder=Path.cwd(),
        writable=_writable(config, given.get("events"), with_data_dir=not state),
        leave_within=config.leave_within,
        user=user,
        state=state,
        variables=[f"PYTHONPATH={PACKAGE_ROOT}"] if is_found_there else [],
        has_namespaces=_has_namespaces(),
        low_port=0 < config.listen[1] < 1024,
    )


def _checked_context(words: Sequence[str]) -> Any:
    """Return the context of the node; refuse options that no service can have.

    Raises:
        UserError: there is one, or the options cannot be used.
    """
    from p2pfl.cli.options import SCREEN_OPTIONS
    from p2pfl.cli.settings import ONCE, node_context, source_of
    from p2pfl.errors import UserError

    node = node_context(words)
    for name in (*ONCE, "tui"):
        if node.params[name]:
            raise UserError(
                f"a service takes no --{name.replace('_', '-')}, which would act at each of its starts: give "
                "it to `p2pfl node` once, and then install the service"
            )
    for name in SCREEN_OPTIONS:
        if source_of(node, name) == "flag":
            raise UserError(f"a service opens no terminal UI: leave --{name} out, and give it to `p2pfl tui`")
    return node


def _own_words(node: Any) -> list[str]:
    """Return the arguments of the service's node: the file, and what is set by flags and the environment."""
    from p2pfl.cli.option_values import options_of
    from p2pfl.cli.options import SCREEN_OPTIONS
    from p2pfl.cli.settings import ISOLATED, settings_file, source_of
    from p2pfl.paths import full

    words, last = [], []
    file = None if node.params[ISOLATED] else settings_file(node.params["config"])
    if file is not None:
        words.append(f"--config={full(file)}")
    for option in options_of(node.command):
        source = source_of(node, option.name)
        if option.name in ("config", *SCREEN_OPTIONS) or not (
            source == "flag" or source.startswith("environment")
        ):
            continue
        value = node.params[option.name]
        if isinstance(value, Path):
            value = full(value)
        if option.parameter.param_type_name == "argument":
            last = option.to_words(value)
        else:
            words += option.to_words(value)
    return words + last


def _writable(config: NodeConfig, events: Path | None, *, with_data_dir: bool) -> list[Path]:
    """Return the folders that a node with *config* writes to.

    That of its certificate is one: a renewed one is written there.
    """
    from p2pfl.learning.data import default_root
    from p2pfl.paths import full

    folders = [full(config.credentials.directory)]
    if with_data_dir:
        folders.append(full(config.data_dir))
    if events is not None:
        folders.append(full(events).parent)
    if config.save_dir is not None:
        folders.append(config.save_dir)
    places = {"csv": lambda path: path.parent, "tensorboard": lambda path: path}
    folders += [places[one.kind](Path(one.where)) for one in config.track if one.kind in places]
    if config.worker.places.download and (root := config.worker.places.root or default_root()) is not None:
        folders.append(root)
    return list(dict.fromkeys(folders))


def _make_writable(folder: Path, user: str | None) -> None:
    """Make *folder* where it is missing, for *user* (None: this one)."""
    import shutil

    from p2pfl.store.durable import disk_errors, make_folder

    if folder.exists():
        return
    with disk_errors("make", folder):
        make_folder(folder)
        if user is not None:
            shutil.chown(folder, user)


def _check_places(service: SystemdService) -> None:
    """Refuse places that are empty for a service, or at the next boot.

    Raises:
        UserError: there is one.
    """
    from p2pfl.errors import UserError

    for place in (Path(service.words[0]), service.folder, *service.writable):
        if any(place.is_relative_to(folder) for folder in TEMPORARY):
            raise UserError(
                f"{place} is a temporary place, which the system empties and a service does not see: move "
                "it, and install the service from there"
            )


def _check_readable(config: NodeConfig, user: str) -> None:
    """Refuse a key that *user* cannot read: keys are for their owner only.

    Raises:
        UserError: it belongs to somebody else.
    """
    import pwd

    from p2pfl.errors import UserError
    from p2pfl.paths import quoted

    folder = config.credentials.directory
    if folder.stat().st_uid != pwd.getpwnam(user).pw_uid:
        raise UserError(
            f"the certificate in {folder} does not belong to {user}, who is to run the service: "
            f"`sudo chown -R {user} {quoted(folder)}`, or name its owner with --as"
        )


def _system_user(user: str | None) -> str:
    """Return who runs a service of the system.

    Raises:
        UserError: nobody is named, or there is no such user.
    """
    import pwd

    from p2pfl.errors import UserError

    name = user or os.environ.get("SUDO_USER") or ""
    if not name:
        raise UserError("name who is to run the service with --as USER: nothing needs the rights of root")
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise UserError(f"there is no user {name!r} on this device: give one that exists with --as") from None
    return name


def _has_namespaces() -> bool:
    """Return whether users of this system may make user namespaces."""
    for path, value in FORBIDS_NAMESPACES.items():
        try:
            if Path(path).read_text(encoding="ascii").strip() == value:
                return False
        except OSError:  # this kernel has no such setting
            continue
    return True


def _units(*, system: bool) -> Path:
    """Return the folder of the units."""
    if system:
        return SYSTEM_UNITS
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "systemd" / "user"


def _find(name: str | None, *, system: bool) -> Path:
    """Return the unit of the node *name*, or the only one.

    Raises:
        UserError: there is no such unit, or several.
    """
    from p2pfl.cli.service_unit import unit_name
    from p2pfl.errors import UserError

    folder = _units(system=system)
    other = "without --system" if system else "with --system"
    found = sorted(folder.glob("p2pfl-*.service"))
    if name is not None:
        found = [path for path in found if path.name == unit_name(name)]
    if not found:
        what = f"service of a node {name!r}" if name is not None else "service of a node"
        raise UserError(
            f"there is no {what} in {folder}: `p2pfl service install` makes one; look {other} for another"
        )
    if len(found) > 1:
        names = ", ".join(path.stem.removeprefix("p2pfl-") for path in found)
        raise UserError(f"there are several services: name one of {names}")
    return found[0]


def _check_systemd() -> None:
    """Refuse to go on where systemd does not manage services.

    Raises:
        UserError: it does not.
    """
    import shutil

    from p2pfl.errors import UserError

    if sys.platform != "linux" or shutil.which("systemctl") is None:
        raise UserError(NOT_LINUX)
    if not MANAGED.is_dir():
        raise UserError(
            "systemd does not manage this system, as in a container: run `p2pfl node` there itself; "
            "`p2pfl service install --dry-run` prints the unit for another one"
        )


def _systemctl(words: Sequence[str], *, system: bool) -> None:
    """Run systemctl.

    Raises:
        UserError: it refused; the message has its reason.
    """
    from p2pfl.errors import UserError
    from p2pfl.text import one_line

    scope = [] if system else ["--user"]
    command = ["systemctl", *scope, *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - no shell
    if done.returncode != 0:
        advice = "use sudo" if system else "log in as this user (not by su), or use --system"
        raise UserError(
            f"`{' '.join(command)}` failed: {one_line(done.stderr.strip(), 300)} "
            f"({advice}, or see `p2pfl service status`)"
        )


def _own_name() -> str:
    """Return the name of this process's user."""
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
