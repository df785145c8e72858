"""What is simulated, and what comes out: plain values, without torch."""

from __future__ import annotations

from typing import Any

import msgspec

from p2pfl.errors import UserError
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.simulation.attack_specs import AttackSpec, Backdoor, LabelFlip
from p2pfl.spec import RunSpec
from p2pfl.strategy_specs import FedAvgSpec, OwnStrategySpec, least_updates, strategy_name, trains_differently


class SimulatedRun(msgspec.Struct, frozen=True):
    """One federation that is simulated on this machine."""

    spec: RunSpec
    """What is trained, as in a run of nodes."""
    clients: int
    """Number of clients, among whom the training examples are divided."""
    places: DataPlaces = DataPlaces()
    """Where data and code are."""
    partition: str = "iid"
    """How the training examples are divided among the clients (`p2pfl.learning.partition`)."""
    sample: int = 0
    """Clients that train in a round, chosen by the seed; 0: all."""
    attackers: tuple[int, ...] = ()
    """Clients that attack."""
    attack: AttackSpec | None = None
    evaluate_every: int = 1
    """The model of every so many rounds is evaluated, and the last one."""
    engine: str = "local"
    """What runs the clients (`p2pfl.learning.simulation.engine`)."""
    ray_address: str = ""
    """Where a Ray cluster is, for the engine "ray"; empty: Ray is started on this machine."""
    workers: int = 0
    """Processes that train; 0: one for each processor."""
    device: str = "auto"
    """Where clients train: cpu, cuda, mps or auto."""
    vectorised: bool = False
    """Whether clients with equally many examples are trained at once (`p2pfl.learning.simulation.stacked`),
    which may change the last bits of models."""

    def to_text(self) -> str:
        """Return this run as one line of JSON."""
        plain = msgspec.to_builtins(self, enc_hook=str)
        if not self.vectorised:
            del plain["vectorised"]  # results are found by a digest of this text, and some are older
        return msgspec.json.encode(plain).decode()

    @classmethod
    def from_text(cls, text: str | bytes) -> SimulatedRun:
        """Return the run that `to_text` wrote."""
        return msgspec.json.decode(text, type=cls, dec_hook=_to_path)


class SimulatedRound(msgspec.Struct, frozen=True):
    """One round of a simulation."""

    round: int
    """From 1."""
    metrics: dict[str, float]
    """Mean of each metric of the model of this round over all held-out examples, and "backdoor" where that is
    the attack; empty if the model was not evaluated."""
    seconds: float
    """Duration of the round, with its evaluation."""
    clients: tuple[int, ...]
    """Clients whose updates were aggregated, ascending."""
    attackers: tuple[int, ...]
    """Those of them that attacked."""
    best: float | None
    """Best value of the primary metric up to this round; None before the first evaluation."""
    is_best: bool
    """Whether the model of this round has it."""
    training_loss: float | None
    """Mean training loss of the honest clients, weighted by their examples; None without one."""
    digest: str
    """BLAKE3 of the model's file, as nodes name it."""
    left_out: tuple[tuple[int, str], ...] = ()
    """Clients without an update that can be used, and why."""
    note: str = ""
    """Why the model is that of the round before; empty if it is a new one."""

    @property
    def loss(self) -> float | None:
        """The mean of "loss"; None if it was not measured."""
        return self.metrics.get("loss")

    @property
    def accuracy(self) -> float | None:
        """The mean of "accuracy"; None if it was not measured."""
        return self.metrics.get("accuracy")


def check_least(run: SimulatedRun) -> None:
    """Refuse a run whose rounds have too few clients for its strategy.

    Raises:
        UserError: they have.
    """
    there, least = run.sample or run.clients, least_updates(run.spec.strategy)
    if there >= least:
        return
    more = "clients" if least > run.clients else "of them in a round (sample)"
    fewer = ", or let it tolerate fewer attackers" if getattr(run.spec.strategy, "attackers", 0) else ""
    raise UserError(
        f"{strategy_name(run.spec.strategy)} needs at least {least} updates in a round with these options, "
        f"and {there} of {run.clients} clients train in one; use at least {least} {more}{fewer}."
    )


def representative(run: SimulatedRun) -> SimulatedRun:
    """Return a run that is possible where *run* is: equal ones need to be checked once.

    The numbers of training have no influence, nor have the strategies and attacks that do without code or
    data of a task.
    """
    spec, attack = run.spec, run.attack
    strategy = spec.strategy
    if not (trains_differently(strategy) or isinstance(strategy, OwnStrategySpec)):
        strategy = FedAvgSpec()
    training = msgspec.structs.replace(spec.training, learning_rate=1.0, epochs=1, batch_size=1, momentum=0.0)
    seed = (
        spec.seed if run.partition.startswith(("labels:", "natural:")) else 1
    )  # these may be impossible by chance
    spec = msgspec.structs.replace(spec, seed=seed, rounds=1, training=training, strategy=strategy)
    attack = attack if isinstance(attack, LabelFlip | Backdoor) else None
    return msgspec.structs.replace(run, spec=spec, attack=attack, attackers=(), sample=0)


def vectorised_flaw(run: SimulatedRun) -> str:
    """Return why the clients of *run* cannot be trained at once, as half a sentence; empty if they can be."""
    spec, training = run.spec, run.spec.training
    if run.engine != "local":
        return f"the engine {run.engine!r} trains one client after another"
    if trains_differently(spec.strategy):
        return f"the strategy {strategy_name(spec.strategy)} changes the local training"
    if spec.personalisation.personal:
        return "clients keep tensors for themselves (personal)"
    for name, is_given in (
        ("clip", training.clip > 0),
        ("class_weights", training.class_weights),
        ("precision", training.precision != "full"),
    ):
        if is_given:
            return f"{name} is not the same for clients that are trained at once"
    return ""


def _to_path(kind: type, value: Any) -> Any:
    return kind(value)
