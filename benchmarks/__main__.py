"""The command line of the benchmarks."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from benchmarks import ROOT, curvature, fits, landscapes, products, scores, steps
from benchmarks.machine import RESULTS, environment, file_name, on_gpu, use
from benchmarks.peers import PEERS
from benchmarks.tables import draw, table
from benchmarks.workloads import EXTRAS, PARTS, WORKLOADS, Settings, chosen, settings_on
from modelspace.atomic import whole_file
from modelspace.cli.arguments import load_device
from modelspace.errors import ModelspaceError


def parser() -> argparse.ArgumentParser:
    """The options; the README is their help."""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    taught, examples, rest = text.partition("examples:\n")
    texts: dict[str, Any] = {"description": taught, "epilog": examples + rest}
    plain = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(prog="python -m benchmarks", formatter_class=plain, **texts)
    known, default = f"{', '.join(WORKLOADS)}; a network without its batch size", Settings()
    what = made.add_argument_group("what is measured")
    only = f"only this; may be repeated: {known}; {', '.join((*PARTS, *EXTRAS))}"
    what.add_argument("--only", action="append", default=[], metavar="NAME", help=only)
    what.add_argument("--curve", action="store_true", help="also the curves: about half an hour more")
    what.add_argument("--ten-thousand", action="store_true", help="also the seed study: some minutes more")
    what.add_argument("--all", action="store_true", help="both of these")
    peers = f"of {', '.join(PEERS)}, with commas between; or none (all of them; with --quick none)"
    what.add_argument("--peers", type=_peers, metavar="NAMES", help=peers)
    how = made.add_argument_group("how")
    where = f"where all sides compute: cpu, cuda, cuda:1, mps ({default.device})"
    how.add_argument("--device", default=default.device, metavar="NAME", help=where)
    for flag, letter, text in (
        ("--repeats", "N", f"turns of each side ({default.repeats})"),
        ("--members", "K", f"members in the step benchmarks ({default.members})"),
        ("--threads", "N", "cores for each side (as PyTorch chooses: all of them)"),
    ):
        how.add_argument(flag, type=_positive, metavar=letter, help=text)
    quick = "a few members for a moment, nothing compiled, nothing asserted"
    how.add_argument("--quick", action="store_true", help=quick)
    out = made.add_argument_group("what becomes of it")
    out.add_argument("--json", metavar="PATH", help="write the results there; '-' for standard output")
    out.add_argument("--no-assert", action="store_true", help="exit 0 although a target was missed")
    return made


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return value


def _peers(text: str) -> tuple[str, ...]:
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer '{name}': {', '.join(PEERS)}, or none")
    return tuple(name for name in PEERS if name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    asked = parser().parse_args(arguments)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    only = asked.only or (["dummynet", "mlp", "cnn"] if asked.quick else [])
    wanted = zip(EXTRAS, (asked.curve, asked.ten_thousand), strict=True)
    try:
        device = str(torch.empty(0, device=load_device(asked.device)).device)  # with its number: "cuda:0"
        use(device)
        settings = settings_on(device, quick=asked.quick)
        given = {"repeats": asked.repeats, "members": asked.members, "peers": asked.peers}
        settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
        results = run(only, settings, [extra for extra, own in wanted if own or asked.all])
        draw(head(results), tables(results), stderr=asked.json == "-")
        text = json.dumps(results, indent=2, ensure_ascii=False) + "\n"
        if asked.json == "-":
            sys.stdout.write(text)
        elif asked.json or not only:
            path = Path(asked.json or RESULTS / file_name(results["environment"]))
            with whole_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            sys.stderr.write(f"written: {path}\n")
    except ModelspaceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except subprocess.CalledProcessError as error:  # the child has said why
        status = f"exit status {error.returncode}"
        sys.stderr.write(f"a measurement in a process of its own failed with {status}\n")
        return 3
    missed = not all(check["met"] for check in results["checks"])
    return int(missed and not (asked.quick or asked.no_assert))


def run(only: Sequence[str], settings: Settings, extras: Sequence[str] = ()) -> dict[str, Any]:
    """Measure what the names choose, in this order; everything is plain values, summaries beside raw numbers.

    Raises:
        ModelspaceError: a name is not known.
    """
    names, parts = chosen(only, extras)
    results = {
        "environment": environment(settings.device),
        "settings": asdict(settings),
        "steps": steps.measure(names, settings),
        "fits": fits.measure(names, settings) if "fit" in parts else [],
        "small": fits.measure_small(settings) if "small" in parts else None,
        "scores": scores.measure(settings) if "scores" in parts else [],
        "products": products.measure(settings) if "products" in parts else [],
        "curvature": curvature.measure(settings) if "curvature" in parts else [],
        "landscape": landscapes.measure(settings) if "landscape" in parts else [],
        "scaling": fits.measure_scaling(settings) if "scaling" in parts else None,
        "curves": fits.measure_curves(names, settings) if "curve" in parts else [],
        "ten_thousand": fits.measure_study(settings) if "ten-thousand" in parts else None,
    }
    return results | {"checks": checks(results)}


def checks(results: dict[str, Any]) -> list[dict[str, Any]]:
    """One check for every target that the run has a number for."""
    of_steps = [check for one in results["steps"] for check in steps.checks(one)]
    of_calls = scores.checks(results.get("scores", [])) + products.checks(results.get("products", []))
    of_calls += curvature.checks(results.get("curvature", []))
    of_calls += landscapes.checks(results.get("landscape", []))
    return of_steps + fits.checks(results) + of_calls


def head(results: dict[str, Any]) -> str:
    """Where it was measured, in a line."""
    e = results["environment"]
    jax = f", jax {e['jax']}" if e["jax"] else ""
    gpu = f"{e['device']} on " if on_gpu(e) else ""
    # What PyTorch (cuDNN's convolutions) and JAX (all products) do on a GPU when nothing is set.
    rounded = " (TF32 where a library takes it by default)" if gpu else ""
    return (
        f"{gpu}{e.get('processor', e['device'])} ({e['instructions']}), {e['threads']} of {e['cores']} cores, "
        f"torch {e['torch']}{jax}, float32{rounded}, Adam; load before the run {e['load_before']}"
    )


def tables(results: dict[str, Any]) -> list[Table]:
    """What there is to print, from top to bottom."""
    peak = "peak GPU MiB" if on_gpu(results["environment"]) else "peak MiB"
    return [
        *steps.tables(results["steps"]),
        *fits.tables(results, peak),
        *scores.tables(results.get("scores", [])),
        *products.tables(results.get("products", [])),
        *curvature.tables(results.get("curvature", [])),
        *landscapes.tables(results.get("landscape", [])),
        *table(
            "Targets",
            "of what: {name} | wanted: {wanted} | found: {found} | result: {result}",
            [c | {"result": "met" if c["met"] else "MISSED"} for c in results["checks"]],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
