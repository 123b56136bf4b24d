"""A workload in steady state: loop, population and peers by turns."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Targets:
    """What a workload has to reach; None asks for nothing.

    Attributes:
        loop: Times the plain loop; 1 means never slower.
        limit: Fraction of the machine's limit.
        jax: Times JAX.
    """

    loop: float = 1.0
    limit: float | None = None
    jax: float | None = None


@dataclass(frozen=True)
class Repeat:
    """One turn of loop, population and matrix product, one after the other.

    Attributes:
        loop_ms: Milliseconds a step of the plain loop.
        population_ms: Milliseconds a step and member of the population.
        limit_gflops: What a large matrix product reached beside them.
    """

    loop_ms: float
    population_ms: float
    limit_gflops: float


@dataclass(frozen=True)
class Peer:
    """One peer's side of the same turns.

    Attributes:
        name: Which.
        members: Trained at once.
        startup_seconds: From starting its process, or all of them, until it could take its first turn: imports,
            making the members, compiling where it compiles.
        milliseconds: A step and member; one a repeat, none where it is absent.
        absent: Why there is no number; None where there are.
        steps: Updates of one member's whole run, where each member has a process of its own.
        compile_seconds: Of the first step, where it compiles the program that is timed.
        tried: Milliseconds a step and member by K, where it looked for its best.
    """

    name: str
    members: int
    startup_seconds: float
    milliseconds: tuple[float, ...] = ()
    absent: str | None = None
    steps: int | None = None
    compile_seconds: float | None = None
    tried: dict[str, float] = field(default_factory=dict)

    @property
    def ms(self) -> float:
        """A step and member: the median."""
        return median(self.milliseconds)

    @property
    def members_a_second(self) -> float | None:
        """Whole runs, starting left out, where each member has a process of its own."""
        return None if self.steps is None or self.absent else 1e3 / (self.ms * self.steps)

    @property
    def members_a_second_started(self) -> float | None:
        """Whole runs, each process started anew for its member."""
        if self.steps is None or self.absent:
            return None
        return self.members / (self.startup_seconds + self.ms * self.steps * self.members / 1e3)

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summaries too."""
        summary = {
            "ms": None if self.absent else self.ms,
            "members_a_second": self.members_a_second,
            "members_a_second_started": self.members_a_second_started,
        }
        return asdict(self) | summary


@dataclass(frozen=True)
class StepTimes:
    """A workload in steady state.

    Attributes:
        workload: Its name.
        dimension: n.
        members: K.
        batch: Samples a step.
        flop: Useful floating-point operations a step and member.
        member_bytes: Of a member's own numbers: coordinates and buffers.
        shared_bytes: Of what all members share: frozen parameters.
        plan: ``lowering``, ``shard``, ``compiled``, ``threads``, ``workers``, ``reason``, ``fallback``, ``seconds``
            (with compiling).
        targets: What it has to reach.
        repeats: The raw numbers.
        peers: Theirs, repeat by repeat.
    """

    workload: str
    dimension: int
    members: int
    batch: int
    flop: int
    member_bytes: int
    shared_bytes: int
    plan: dict[str, Any]
    targets: Targets
    repeats: tuple[Repeat, ...]
    peers: tuple[Peer, ...] = ()

    @property
    def loop_ms(self) -> float:
        """Of the plain loop: the median."""
        return median(r.loop_ms for r in self.repeats)

    @property
    def population_ms(self) -> float:
        """Of the population: the median."""
        return median(r.population_ms for r in self.repeats)

    @property
    def ratios(self) -> list[float]:
        """Of each repeat: both sides met the same neighbours on the machine."""
        return [r.loop_ms / r.population_ms for r in self.repeats]

    @property
    def ratio(self) -> float:
        """How many times as fast as the loop: the median."""
        return median(self.ratios)

    @property
    def fraction_of_limit(self) -> float:
        """Useful rate over the matrix product's, each repeat against its own."""
        return median(self.flop / (r.population_ms * 1e6) / r.limit_gflops for r in self.repeats)

    def peer(self, name: str) -> Peer | None:
        """The peer of this name, if it was asked."""
        return next((p for p in self.peers if p.name == name), None)

    def against(self, name: str) -> float | None:
        """How many times as fast as a peer: the median over the repeats; None where it has no number."""
        peer = self.peer(name)
        if peer is None or peer.absent:
            return None
        pairs = zip(peer.milliseconds, self.repeats, strict=True)
        return median(ms / r.population_ms for ms, r in pairs)

    @property
    def population_mib(self) -> float:
        """Of the points of all members, what they share counted once."""
        return (self.members * self.member_bytes + self.shared_bytes) / 2**20

    @property
    def copies_mib(self) -> float:
        """Of as many whole networks."""
        return self.members * (self.member_bytes + self.shared_bytes) / 2**20

    def as_dict(self) -> dict[str, Any]:
        """As plain values, the summaries too."""
        return asdict(self) | {
            "peers": [p.as_dict() | {"ratio": self.against(p.name)} for p in self.peers],
            "loop_ms": self.loop_ms,
            "population_ms": self.population_ms,
            "ratio": self.ratio,
            "fraction_of_limit": self.fraction_of_limit,
            "population_mib": self.population_mib,
            "copies_mib": self.copies_mib,
        }
