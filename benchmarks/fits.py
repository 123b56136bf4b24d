"""Whole fits, each in a fresh process with nothing compiled: what a user waits for, from call to return.

Of many members (``fit``), of 1, 2 and 4 (``small``), of one to thousands (``curve``); as much work with few members
as with many, which must be as fast (``scaling``); and the seed study, sampled and tested too (``ten-thousand``).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from math import ceil
from statistics import median
from typing import Any

from rich.table import Table

import modelspace as ms
from benchmarks import plain
from benchmarks.machine import in_fresh_process, peak_mib, product_gflops, seconds_of, synchronise
from benchmarks.peers import running
from benchmarks.tables import check, each, table, times
from benchmarks.workloads import CURVES, FITS, WORKLOADS, Settings, Workload

TOLERANCE = 0.2
_DUMMYNET = "dummynet-32"


def measure(names: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """One call of ``fit`` of every workload that was asked for, of all where none was."""
    asked = [name for name in FITS if name in names] or FITS
    fits = each(f"fitting {len(asked)} workloads whole", asked, "fits")
    return [_whole(settings, name, settings.fit_members, settings.fit_epochs) for name in fits]


def _whole(settings: Settings, name: str, members: int, epochs: int, **more: Any) -> dict[str, Any]:
    size = {"name": name, "members": members, "epochs": epochs}
    return in_fresh_process("fits:whole", settings.device, **size, **more)


def measure_small(settings: Settings) -> dict[str, Any]:
    """Fits of so few members that a plan and a bookkeeping must cost nothing, on one thread; and ``verify``."""
    sizes, one = settings.small_members, {"name": _DUMMYNET, "threads": 1}
    fits: dict[int, list[dict[str, Any]]] = {members: [] for members in sizes}
    for members in each(f"fitting K = {sizes[0]} to {sizes[-1]}", sizes * settings.repeats, "fits"):
        fits[members].append(_whole(settings, members=members, epochs=settings.small_epochs, **one))
    repeats = each("verifying", range(settings.repeats), "times")
    verified = [in_fresh_process("fits:verification", settings.device, **one) for _ in repeats]
    return summarised_small(fits, verified)


def measure_scaling(settings: Settings) -> dict[str, Any]:
    """Every K with the same number of member-steps.

    All are compiled or none, because a run is compared here and not whether it is long enough to repay compiling.
    A GPU is not filled by few members, so nothing is asked of the throughput there.
    """
    ks, sizes = settings.scaling_members, []
    how = {"repeats": min(settings.repeats, settings.scaling_repeats), "compile": settings.scaling_compiled}
    for members in each(f"scaling from K = {ks[0]} to {ks[-1]}", ks, "sizes"):
        size = {"name": _DUMMYNET, "members": members, "epochs": ceil(2 * max(ks) / members)}
        sizes.append(in_fresh_process("fits:throughput", settings.device, **size, **how))
    return summarised_scaling(sizes, TOLERANCE if settings.device == "cpu" else None)


def measure_curves(names: Sequence[str], settings: Settings) -> list[dict[str, Any]]:
    """Fits at every K; beside the first workload's, the peers in steady state at every K."""
    curves: list[dict[str, Any]] = []
    for name in [name for name in CURVES if name in names] or CURVES:
        fits, points = [], []
        for members in each(f"the curve of {name}", settings.curve_members, "sizes"):
            fits.append(_whole(settings, name, members, settings.curve_epochs))
            if settings.peers and not curves:
                points.append(_point(WORKLOADS[name], members, settings))
        curves.append({"workload": name, "fits": fits, "points": points})
    return curves


def _point(workload: Workload, members: int, settings: Settings) -> dict[str, Any]:
    """The peers that train K members at once, by turns with the loop; they have no planning."""
    data, device, seconds = workload.data(), settings.device, settings.turn_seconds
    loop = plain.Steps(workload.network, workload.batches(data, device=device), device)
    sizes = {"torch.func": {"members": members}, "jax": {"sizes": [members]}}
    asked = {name: own for name, own in sizes.items() if name in settings.peers}
    loop_ms = []
    with running(asked, workload.network, workload.batches(data), device) as peers:
        for seed in range(settings.repeats):
            loop_ms.append(loop.milliseconds(seconds, seed))
            for peer in peers:
                peer.turn(seconds)
        results = [peer.result for peer in peers]
    return with_ratios({"members": members, "loop_ms": loop_ms, "peers": results})


def measure_study(settings: Settings) -> dict[str, Any]:
    """The seed study of DummyNet."""
    return _whole(settings, _DUMMYNET, settings.study_members, settings.study_epochs, tested=True)


def whole(device: str, name: str, members: int, epochs: int, tested: bool = False) -> dict[str, Any]:
    """In a fresh process: one fit, with some networks in the plain loop before it and as many after it.

    In the seed study sampling and testing are part of it, on both sides.
    """
    workload, data = WORKLOADS[name], WORKLOADS[name].data()
    splits = [(split.inputs.to(device), split.labels.to(device)) for split in (data.validation, data.test)]
    batches = [workload.batches(data, epoch, device) for epoch in range(epochs)]
    test, networks = (splits[1], 3) if tested else (None, 2)
    alone = partial(plain.whole_network_seconds, workload.architecture, device, batches, splits[0], test)
    loop = [alone(seed) for seed in range(networks)]
    marks = [time.perf_counter()]
    population = workload.space().sample(seeds=range(members)).to(device)
    marks.append(time.perf_counter())
    run = ms.fit(population, data, optimizer=ms.Adam(lr=plain.LR), epochs=epochs, batch_size=workload.batch)
    synchronise(device)
    marks.append(time.perf_counter())
    scores = ms.evaluate(run.population.to(device), data, ["loss", "accuracy"]) if tested else None
    marks.append(time.perf_counter())
    peak = peak_mib(device)
    loop += [alone(seed) for seed in range(networks, 2 * networks)]
    parts = [after - before for before, after in pairwise(marks)]
    measured = {"workload": name, "members": members, "epochs": epochs, "steps": int(run.steps.sum())}
    seconds = sum(parts) if tested else parts[1]
    measured |= {"seconds": seconds, "plan": asdict(run.plan), "loop_seconds": loop}
    if scores is not None:
        accuracy = scores["accuracy"].to_numpy()
        measured |= {"accuracy": [float(accuracy.mean()), float(accuracy.std(ddof=1))]}
        measured |= dict(zip(("sample_seconds", "fit_seconds", "evaluate_seconds"), parts, strict=True))
    return summarised(measured | {"diverged": len(run.diverged), "peak_mib": peak})


def verification(device: str, name: str) -> float:
    """In a fresh process: seconds of ``verify`` as it comes, which computes on the CPU whatever the device."""
    space = WORKLOADS[name].space()
    return seconds_of(lambda: ms.verify(space))


def throughput(
    device: str, name: str, members: int, epochs: int, repeats: int, compile: bool
) -> dict[str, Any]:
    """In a fresh process: a first fit plans and compiles (if it can), the others repeat its plan."""
    workload, data = WORKLOADS[name], WORKLOADS[name].data()
    population = workload.space().sample(seeds=range(members)).to(device)
    settings = {"optimizer": ms.Adam(lr=plain.LR), "epochs": epochs, "batch_size": workload.batch}
    try:
        plan = ms.fit(population, data, plan={"compile": compile}, **settings).plan
    except ms.ModelspaceError:
        plan = ms.fit(population, data, plan={"compile": False}, **settings).plan
    rates, limits, peaks = [], [], []
    for _ in range(repeats):
        run = ms.fit(population, data, plan=plan, **settings)
        # Planning left out, scores included.
        rates.append(int(run.steps.sum()) / (run.seconds - run.plan.seconds))
        peaks.append(peak_mib(device))
        limits.append(product_gflops(0.2, device))
    measured = {"members": members, "epochs": epochs, "rates": rates, "limits_gflops": limits}
    # The first, before a product, whose matrices are the larger ones on a GPU.
    return measured | {"plan": asdict(plan), "peak_mib": peaks[0]}


def summarised(fit: dict[str, Any]) -> dict[str, Any]:
    """A fit's raw numbers, the loop's seconds for all members, extrapolated, and how many times as fast the fit is.

    ``ratio_planned`` is the same where the plan was known before: planning and compiling left out.
    """
    total, planning = median(fit["loop_seconds"]) * fit["members"], fit["plan"]["seconds"]
    ratios = {"ratio": total / fit["seconds"], "ratio_planned": total / (fit["seconds"] - planning)}
    return fit | {"loop_total": total} | ratios


def summarised_small(fits: dict[int, list[dict[str, Any]]], verify_seconds: list[float]) -> dict[str, Any]:
    """Of each K all its fits, and the middle one, whose ratio is to be 1 at least."""
    rows = []
    for repeats in fits.values():
        ranked = sorted(repeats, key=lambda fit: fit["ratio"])
        span = {"least": ranked[0]["ratio"], "most": ranked[-1]["ratio"], "target": 1.0, "repeats": repeats}
        rows.append(ranked[len(repeats) // 2] | span)
    return {"workload": _DUMMYNET, "fits": rows, "verify_seconds": verify_seconds}


def summarised_scaling(sizes: Sequence[dict[str, Any]], tolerance: float | None) -> dict[str, Any]:
    """The sizes, and the largest deviation from the middle of the highest and the lowest rate, as a part of it."""
    rates = [median(size["rates"]) for size in sizes]
    spread = (max(rates) - min(rates)) / (max(rates) + min(rates))
    spans = [{"least": min(size["rates"]), "most": max(size["rates"])} for size in sizes]
    rows = [size | {"rate": r} | span for size, r, span in zip(sizes, rates, spans, strict=True)]
    return {"workload": _DUMMYNET, "tolerance": tolerance, "sizes": rows, "spread": spread}


def with_ratios(point: dict[str, Any]) -> dict[str, Any]:
    """The peers at one K, and how many times as fast as the loop each of them is, where it has a number."""
    present = [p for p in point["peers"] if not p["absent"]]
    return point | {"ratios": {p["name"]: times(point["loop_ms"], p["milliseconds"]) for p in present}}


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Few members are never slower than the loop; the throughput stays flat, where that is asked."""
    found, small, scaling = [], results.get("small"), results.get("scaling")
    for fit in small["fits"] if small else []:
        what = f"{small['workload']}: whole fit on one thread, K = {fit['members']}, times the plain loop"
        ratio, target = fit["ratio"], fit["target"]
        found.append(check(what, f"≥ {target:g}", f"{ratio:.2f}", ratio >= target))
    if scaling and scaling["tolerance"] is not None:
        ks = [size["members"] for size in scaling["sizes"]]
        what = f"{scaling['workload']}: throughput a member, K = {ks[0]} … {ks[-1]}"
        wanted, spread = scaling["tolerance"], scaling["spread"]
        found.append(check(what, f"± {100 * wanted:.0f} %", f"± {100 * spread:.0f} %", spread <= wanted))
    return found


def tables(results: dict[str, Any], peak: str) -> list[Table]:
    """What there is of fits, few members, scaling, curves, the seed study."""
    size = "workload: {workload} | K: {members:,} | epochs: {epochs}"
    total = "loop, extrapolated: {loop_total:.1f} | × loop: {ratio:.1f} ×"
    memory = f"{peak}: {{peak_mib:.0f}} | plan: {{how}}"
    small, scaling, study = (results.get(part) for part in ("small", "scaling", "ten_thousand"))
    return [
        *table(
            "One call of fit, planning and compiling included, validated every epoch; fresh process",
            f"{size} | seconds: {{seconds:.1f}} | planning s: {{plan[seconds]:.1f}} | {total} | "
            f"planned before: {{ratio_planned:.1f}} × | {memory}",
            results["fits"],
        ),
        *table(
            "One call of fit of few members, planning included, on one thread; the middle of some fresh processes",
            f"{size} | seconds: {{seconds:.2f}} | planning s: {{plan[seconds]:.2f}} | loop s: {{loop_total:.2f}} | "
            "× loop: {ratio:.2f} × | range: {least:.2f}–{most:.2f} | target: ≥ {target:g} | plan: {how}",
            small["fits"] if small else [],
            f"verify of {small['workload']}: {median(small['verify_seconds']):.1f} s" if small else "",
        ),
        *table(
            f"As much work with few members as with many; spread ± {100 * scaling['spread'] if scaling else 0:.0f} %",
            "K: {members:,} | epochs: {epochs} | member-steps/s: {rate:,.0f} | range: {least:,.0f}–{most:,.0f} | "
            f"limit GFLOP/s: {{limits_gflops[0]:.0f}} | planning s: {{plan[seconds]:.1f}} | {memory}",
            scaling["sizes"] if scaling else [],
        ),
        *(_curve_table(curve) for curve in results["curves"]),
        *table(
            "The seed study, sampled, trained and tested; fresh process",
            "K: {members:,} | epochs: {epochs} | sampling s: {sample_seconds:.1f} | fitting s: {fit_seconds:.1f} | "
            f"testing s: {{evaluate_seconds:.1f}} | {total} | accuracy: {{accuracy[0]:.4f}} ± {{accuracy[1]:.4f}} | "
            f"diverged: {{diverged}} | {memory}",
            [study] if study else [],
        ),
    ]


def _curve_table(curve: dict[str, Any]) -> Table:
    ratios = {point["members"]: point["ratios"] for point in curve["points"]}
    peers = [p["name"] for p in curve["points"][0]["peers"]] if curve["points"] else []
    rows = [f | {"peers": [ratios.get(f["members"], {}).get(p) for p in peers]} for f in curve["fits"]]
    columns = "K: {members:,} | planning left out: {ratio_planned:.1f} × | included: {ratio:.1f} × | "
    columns += "".join(f"{p} at this K: {{peers[{i}]:.1f}} × | " for i, p in enumerate(peers))
    title = f"{curve['workload']}: times the plain loop by K; whole fits, peers in steady state"
    return table(title, f"{columns}plan: {{how}}", rows)[0]
