"""What the benchmark found: the rows of its table, and the ratios that must hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; seconds and work are per prompt."""

    model: str
    entropy: float
    stage: str
    who: str
    seconds: float
    fastest: float
    slowest: float
    vs_naive: float | None = None
    of_floor: float | None = None
    net_tokens: float | None = None
    passes: float | None = None
    gflop: float | None = None
    gbytes: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Target:
    """A ratio that must hold."""

    what: str
    found: float
    wanted: float
    at_most: bool

    @property
    def held(self) -> bool:
        """Whether it does."""
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{'held  ' if self.held else 'MISSED'} {self.what}: {self.found:.3g} {sign} {self.wanted:g}"


def find_targets(rows: Sequence[Row]) -> Iterator[Target]:
    """The ratios that the rows of a run have: to the floor, to the naive loop and to the best sampler."""
    ours = [row for row in rows if row.who == "ours"]
    for row in ours:
        where = f"{row.model} at {row.entropy:.2f} nats/token: {row.stage}"
        trained = row.model == "embedded"
        if row.of_floor is not None and row.model in ("15M", "125M"):
            yield Target(f"{where}, x floor", row.of_floor, 1.5 if row.stage == "grid" else 2.0, at_most=True)
        if row.stage == "grid" and row.vs_naive is not None:
            wanted = 200.0 if trained else 60.0 if row.entropy < 1.5 else 20.0
            yield Target(f"{where}, x naive", row.vs_naive, wanted, at_most=False)
        if row.stage == "both" and row.vs_naive is not None and trained:
            yield Target(f"{where}, sampling and grid, x naive", row.vs_naive, 120.0, at_most=False)
        for peer in rows:
            same = (peer.model, peer.entropy, peer.stage) == (row.model, row.entropy, "sampling")
            if same and row.stage == "sampling" and peer.who == "ctranslate2":
                yield Target(f"{where}, x ctranslate2", peer.seconds / row.seconds, 1.5, at_most=False)


def print_table(rows: Sequence[Row]) -> None:
    """All rows, one line each."""
    head = ("model", "nats", "stage", "who", "s/prompt", "vs naive", "x floor", "net tokens", "passes", "GFLOP", "GB")
    print(("{:9}{:>5} {:9}{:17}" + "{:>11}" * 7 + "  note").format(*head))
    for row in rows:
        values = row.seconds, row.vs_naive, row.of_floor, row.net_tokens, row.passes, row.gflop, row.gbytes
        numbers = ["" if value is None else f"{value:.4g}" for value in values]
        line = f"{row.model:9}{row.entropy:5.2f} {row.stage:9}{row.who:17}"
        print(line + "".join(f"{number:>11}" for number in numbers) + f"  {row.note}")
