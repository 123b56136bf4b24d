"""Which targets a run met."""

from benchmarks.record import Check, Results


def checks(results: Results) -> tuple[Check, ...]:
    """One check for every target that the run has a number for."""
    found = [
        Check(f"{s.workload}: times the plain loop", f"≥ {s.target:g}", f"{s.ratio:.1f}", s.ratio >= s.target)
        for s in results.steps
    ]
    scaling = results.scaling
    if scaling is not None:
        first, last = scaling.sizes[0].members, scaling.sizes[-1].members
        found.append(
            Check(
                f"{scaling.workload}: throughput a member, K = {first} … {last}",
                f"± {100 * scaling.tolerance:.0f} %",
                f"± {100 * scaling.spread:.0f} %",
                scaling.spread <= scaling.tolerance,
            )
        )
    return tuple(found)
