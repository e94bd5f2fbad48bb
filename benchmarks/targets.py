"""What the figures must reach, beside the newest result of each benchmark, its floor and the peer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results_file import FOLDER, newest

type Result = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A measured value and the bound it must keep: at most `limit`, or at least where `least`.

    `floor` is what nothing can go below, `peer` what LangGraph's store took, both as words.
    """

    name: str
    value: float
    limit: float
    unit: str = "ms"
    least: bool = False
    floor: str = ""
    peer: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    @property
    def used(self) -> float:
        """How much of the bound is used up: 1 is just met, more is missed."""
        if self.least:
            return self.limit / self.value if self.value else float("inf")
        if self.limit:
            return self.value / self.limit
        return 0.0 if not self.value else float("inf")

    @property
    def bound(self) -> str:
        return f"{'≥' if self.least else '≤'} {shown(self.limit, self.unit)}"

    @property
    def measured(self) -> str:
        return shown(self.value, self.unit)


def shown(value: float, unit: str) -> str:
    """A value as people read it."""
    number = (
        f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}" if value >= 1 else f"{value:.3f}"
    )
    return f"{number} {unit}".rstrip() if unit != "×" else f"{number}×"


def figures(folder: Path = FOLDER) -> dict[str, list[Figure]]:
    """By benchmark, those that have a result in the folder."""
    readers = {
        "quality": _quality, "asof": _asof, "latency": _latency, "ingest": _ingest, "startup": _startup,
        "memory": _memory, "graph": _graph, "extraction": _extraction,
        "erase": _erase, "entities": _entities, "omnimem-speed": _record, "fleet-speed": _fleet,
    }  # fmt: skip
    found = {name: newest(name, folder) for name in readers}
    return {name: list(readers[name](result)) for name, result in found.items() if result is not None}


def _quality(result: Result) -> Iterator[Figure]:
    for depth, least in ((5, 0.69), (10, 0.79), (20, 0.85)):
        yield Figure(f"answers found, recall@{depth}", result["overall"][f"recall@{depth}"], least, "", least=True)
    if "multi-hop" in result["by_category"]:
        value = result["by_category"]["multi-hop"]["recall@10"]
        yield Figure("multi-hop, recall@10", value, 0.45, "", least=True)


def _asof(result: Result) -> Iterator[Figure]:
    yield Figure("hits from the future", result["leaks"], 0, "")
    yield Figure("first ten as they were then", result["same_top_10"], 0.95, "", least=True)


_USERS = (("100000", "1000", 6.0), ("100000", "20000", 12.0), ("1000000", "200000", 40.0))
"""(memories in all, memories of the user, bound of recall's p50)."""


def _latency(result: Result) -> Iterator[Figure]:
    sizes: Mapping[str, Any] = result["milliseconds"]
    for size, user, limit in _USERS:
        if recall := sizes.get(size, {}).get("settled", {}).get(user, {}).get("recall"):
            trip, scanned = sizes[size]["floor"]["round trip"]["p50"], sizes[size]["settled"][user]["scanned"]
            yield Figure(
                f"recall p50, {int(user):,} of {int(size):,}",
                recall["p50"],
                limit,
                floor=f"{recall['round_trips']:.0f} × {trip} ms round trip, {scanned['megabytes']} MB of vectors",
                peer=_peer(sizes[size], user),
            )
        known = sizes.get(size, {}).get("settled", {}).get(f"{user}, 10000 relations and a profile", {}).get("recall")
        if known:
            yield Figure("the same with 10,000 relations and a profile", known["p50"], limit)
    if {"10000", "1000000"} <= sizes.keys():
        few, many = (sizes[size]["settled"]["1000"]["recall"]["p50"] for size in ("10000", "1000000"))
        yield Figure("recall p50, growth from 10,000 to 1,000,000", many / few, 1.5, "×")
    for size, found in sizes.items():
        if writing := found.get("while writing"):
            name = f"recall p95, 20 turns/s written, 1,000 of {int(size):,}"
            yield Figure(name, writing["recall"]["p95"], 20.0)
    if "100000" in sizes and "recall, end to end" in (settled := sizes["100000"]["settled"]["1000"]):
        floor = sizes["100000"]["floor"]
        embed, used = floor["embed a query"]["p50"], floor["embed a query after a recall"]["p50"]
        times = settled["recall, end to end"]["p50"] / embed
        yield Figure(
            "recall end to end, in query embeddings",
            times,
            1.8,
            "×",
            floor=f"{embed} ms embedding ({used} ms after a recall)",
        )
    shares = list(_found(sizes))
    if shares:
        yield Figure("nearest vectors found, least of all", min(shares), 0.99, "", least=True, peer=_peer_found(sizes))


def _found(sizes: Result) -> Iterator[float]:
    for size in sizes.values():
        for group in size["settled"].values():
            for view in group.get("found of exact", {}).values():
                yield from view.values()


def _peer(size: Result, user: str) -> str:
    search = size.get("peer", {}).get(f"search, {user}")
    own = size["settled"][user].get("search")
    return f"search {search['p50']} ms (ours {own['p50']} ms)" if search and own else ""


def _peer_found(sizes: Result) -> str:
    shares = [
        value["found of exact"]
        for size in sizes.values()
        for name, value in size.get("peer", {}).items()
        if name.startswith("search")
    ]
    return f"{min(shares):.2f}" if shares else ""


def _ingest(result: Result) -> Iterator[Figure]:
    trip = f"{result['floor']['round trip']['p50']} ms round trip"
    yield Figure("ingest p50, idle", result["acknowledged"]["idle"]["p50"], 2.5, floor=trip)
    yield Figure("ingest p95 while embedding", result["acknowledged"]["busy"]["p95"], 15.0, floor=trip)
    work = result["background"]
    alone = f"{work['model_alone_per_second']} texts/s"
    yield Figure("background, share of the model's rate", work["share_of_model"], 0.75, "", least=True, floor=alone)
    if (cost := work["own_core_ms_per_text"]) is not None:
        yield Figure("own processor time a text", cost, 2.2)


def _startup(result: Result) -> Iterator[Figure]:
    found = result["import"]
    alone = f"Python {found['python_alone_milliseconds']} ms"
    yield Figure("import neuromem", found["milliseconds"], 60.0, floor=alone)
    yield Figure("first recall, existing database", result["existing database"]["first recall"], 0.8, "s")
    yield Figure("first recall, nothing there yet", result["nothing there"]["first recall"], 5.0, "s")


def _memory(result: Result) -> Iterator[Figure]:
    steps = result["megabytes"]
    alone = f"Python {steps['python']:.0f} MB"
    yield Figure("process with the model", steps["model loaded"], 350.0, "MB", floor=alone)
    yield Figure(f"importing {result['turns']:,} turns, peak", steps["importing, peak"], 600.0, "MB", floor=alone)


def _graph(result: Result) -> Iterator[Figure]:
    found = result["milliseconds"]
    trip = f"{found['round trip']['p50']} ms round trip"
    edges, hub = result["edges"], result["hub"]
    yield Figure(f"path of 4 among {edges:,} edges, p95", found["path, now"]["p95"], 50.0, floor=trip)
    name = f"path through a hub of {hub:,} edges, p95"
    yield Figure(name, max(found[f"path {way} a hub, now"]["p95"] for way in ("through", "to")), 50.0, floor=trip)
    yield Figure(f"facts about what is named, {edges // 10:,} edges", found["facts, now"]["p50"], 2.0, floor=trip)
    yield Figure("30 triples stored, p50", found["store 30 triples"]["p50"], 200.0, floor=trip)


def _extraction(result: Result) -> Iterator[Figure]:
    found = result["milliseconds"]
    trip = f"{result['round_trips']:.0f} × {found['round trip']['p50']} ms round trip"
    yield Figure(
        f"{result['turns']} turns extracted, besides the models, p50", found["extraction"]["p50"], 200.0, floor=trip
    )


def _erase(result: Result) -> Iterator[Figure]:
    found = result["erased"]["the user"]
    name = f"a user with {result['memories']:,} memories and as many turns erased"
    yield Figure(name, found["seconds"], 20.0, "s", floor=f"{sum(found['rows'].values()):,} rows")


def _record(result: Result) -> Iterator[Figure]:
    sizes = {int(size): found for size, found in result["sizes"].items()}
    limits = {
        "search hybrid": 10.0,
        "get": 1.0,
        "create inline": 6.0,
        "update inline": 8.0,
        "history of 1,000 (limit 20)": 1.5,
    }
    peers = {"search hybrid": "search", "create inline": "put"}
    words = {"search": "search by vectors only", "put": "put"}
    rates = {"create_many inline": 500, "create_many async": 3_000, "load": 1_500}
    smallest, largest = min(sizes), max(sizes)
    where, found = f"omnimem, one PostgreSQL, {smallest:,} memories", sizes[smallest]
    of = found["milliseconds"]
    trip = f"{of['round trip']['p50']} ms round trip"
    for what, limit in limits.items():
        theirs = found.get("peer", {}).get(peers.get(what))
        beside = f"{words[peers[what]]} {theirs['p50']} ms" if theirs else ""
        yield Figure(f"{where}: {what}, p50", of[what]["p50"], limit, floor=trip, peer=beside)
    slower = of["search hybrid as_of"]["p50"] / of["search hybrid"]["p50"]
    yield Figure(f"{where}: hybrid search as of the past, times the present", slower, 3.0, "×")
    for what, least in rates.items():
        yield Figure(f"{where}: {what}", found[what]["per second"], least, "/s", least=True)
    if largest > smallest:
        grown = sizes[largest]["milliseconds"]["search hybrid"]["p50"] / of["search hybrid"]["p50"]
        yield Figure(f"omnimem: hybrid search at {largest:,} memories, times {smallest:,}", grown, 2.0, "×")


def _fleet(result: Result) -> Iterator[Figure]:
    found = result["milliseconds"]
    where = f"omnimem, a fleet, {result['memories']:,} memories"
    limits = {"search hybrid": 30.0, "create, readable by id": 20.0, "create inline, searchable": 60.0}
    yield from _medians(where, found, limits)
    lag = result["lag at 100 changes/s"]["p95"]
    yield Figure(f"{where}: found after, at 100 changes/s, p95", lag / 1_000, 2.0, "s")
    yield Figure(f"{where}: a worker's rate", result["a second"]["applied"], 400, "/s", least=True)


def _medians(where: str, found: Mapping[str, Any], limits: Mapping[str, float]) -> Iterator[Figure]:
    for what, limit in limits.items():
        yield Figure(f"{where}: {what}, p50", found[what]["p50"], limit)


def _entities(result: Result) -> Iterator[Figure]:
    found = result["milliseconds"]
    trip = f"{found['round trip']['p50']} ms round trip"
    of = f"of {result['memories']:,} memories and as many turns, p50"
    named = [what for what in found if what.startswith("a word in") and what.endswith(", now")]
    for what in named[:2]:
        yield Figure(f"all about {what.removesuffix(', now')} {of}", found[what]["p50"], 25.0, floor=trip)
    hub = f"a hub of {result['memories'] // 10:,} relations"
    yield Figure(f"all about {hub}, p50", found[f"{hub}, now"]["p50"], 50.0, floor=trip)
