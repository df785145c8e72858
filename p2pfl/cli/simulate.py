"""`p2pfl simulate`: simulates federations with faults on virtual time and checks invariants after every step.

A seed replays exactly. A seed that breaks an invariant is printed with the end of its trace and the command
that replays it. Nothing heavy is imported: no numpy, no torch, no network.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfl.sim.seeds import Outcome, SimulationSettings

TRACE_LINES = 100
"""Lines of the trace that are shown before a violation: about one round of five nodes."""

MOST_VIOLATIONS = 5
"""Number of violations after which no more seeds are run."""


def simulate(
    nodes: Annotated[int, typer.Option(min=1, max=256, help="Number of devices.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Number of training rounds in each run.")] = 10,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            help="Faults to inject: none, network, bulk (model transfers fail), workers (they hang, members "
            "leave the run), crashes, heavy (all of these) or lossy (heavy, with as many lost disks as the "
            "protocol tolerates). heavy by default, unless a rule is left out.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 200,
    first: Annotated[int, typer.Option(min=0, metavar="N", help="The first seed.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Run only this seed.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print the whole trace of --seed.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    codec: Annotated[
        bool, typer.Option("--codec", help="Encode and decode every message; a third slower.")
    ] = False,
    without: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="Leave out a rule of the protocol, to see that the checks find it."
        ),
    ] = None,
) -> None:
    """Simulate federations with crashes, partitions and lost disks, and check every step."""
    from p2pfl.sim.seeds import SimulationSettings

    _check_name("--faults", faults, _profiles())
    _check_name("--without", without, _rules())
    setting = SimulationSettings(nodes, rounds, faults or "", codec, without or "")
    if seed is not None:
        raise typer.Exit(_replay(setting, seed, whole=trace))
    raise typer.Exit(_run(setting, range(first, first + seeds), jobs))


def _profiles() -> Sequence[str]:
    from p2pfl.sim.faults import PROFILES

    return list(PROFILES)


def _rules() -> Sequence[str]:
    from p2pfl.sim.rules import RULES

    return list(RULES)


def _check_name(option: str, name: str | None, known: Sequence[str]) -> None:
    from p2pfl.errors import UserError

    if name is not None and name not in known:
        raise UserError(f"{option} does not know {name!r}; choose one of {', '.join(known)}")


def _run(setting: SimulationSettings, seeds: range, jobs: int) -> ExitCode:
    """Run *seeds*, print the progress and the result, and return the exit code."""
    from p2pfl.sim.seeds import run_seeds

    began = time.monotonic()
    done = rounds = 0
    violations: list[Outcome] = []
    is_interrupted = False
    try:
        for outcomes in run_seeds(setting, seeds, jobs):
            done += len(outcomes)
            rounds += sum(outcome.rounds for outcome in outcomes)
            violations += [outcome for outcome in outcomes if outcome.violation]
            _show_progress(f"{done} of {len(seeds)} seeds, {len(violations)} violations")
            if len(violations) >= MOST_VIOLATIONS:
                break
    except KeyboardInterrupt:
        is_interrupted = True
    seconds = max(time.monotonic() - began, 1e-9)
    typer.echo(
        f"{done}{f' of {len(seeds)}' if done < len(seeds) else ''} seeds, {rounds} rounds of {setting.nodes} "
        f"nodes in {seconds:.1f} s ({rounds / seconds:.0f} rounds/s); "
        f"{len(violations) or 'no'} violation{'' if len(violations) == 1 else 's'}"
    )
    for outcome in violations:
        typer.echo(f"seed {outcome.seed}: {outcome.violation}")
    if violations:
        return _replay(setting, violations[0].seed, whole=False)
    if is_interrupted:
        typer.echo(
            f"interrupted: seeds {seeds.start} to {seeds.start + done - 1} are done, all held"
            if done
            else "interrupted before the first seeds were done"
        )
        return ExitCode.INTERRUPTED
    return ExitCode.COMPLETE


def _replay(setting: SimulationSettings, seed: int, *, whole: bool) -> ExitCode:
    """Run *seed* and print its trace, or only the end of it before a violation; return the exit code."""
    from p2pfl.sim.seeds import run_seed

    outcome = run_seed(setting, seed, trace=True)
    shown = outcome.trace if whole else outcome.trace[-TRACE_LINES:] if outcome.violation else ()
    for line in shown:
        typer.echo(line)
    if not outcome.violation:
        typer.echo(f"seed {seed}: {outcome.rounds} rounds, every invariant held")
        return ExitCode.COMPLETE
    typer.echo(f"seed {seed}: {outcome.violation}")
    if not whole:
        typer.echo(f"its whole trace: {_command(setting, seed)}")
    return ExitCode.FAILED


def _command(setting: SimulationSettings, seed: int) -> str:
    """Return the command that replays *seed*."""
    parts = ["p2pfl simulate", f"--nodes {setting.nodes}", f"--rounds {setting.rounds}"]
    parts += [f"--faults {setting.faults}"] if setting.faults else []
    parts += ["--codec"] if setting.codec else []
    parts += [f"--without {setting.without}"] if setting.without else []
    return " ".join([*parts, f"--seed {seed}", "--trace"])


def _show_progress(text: str) -> None:
    """Print a line that the next one overwrites, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[2K{text}\r")
        sys.stderr.flush()
