"""What can be asked on the command line."""

import argparse

import torch

from benchmarks.peers import PEERS
from benchmarks.settings import Settings
from benchmarks.workloads import EXTRAS, PARTS, WORKLOADS
from modelspace.cli.arguments import load_device
from modelspace.errors import unknown_name

_DESCRIPTION = """\
How fast is training K networks as one population, against the plain PyTorch loop, against those who train many
at once otherwise, and against the machine?

Each question is answered with all sides measured in the same run; the ratio is the figure:

  steps    One training step in steady state (forward, backward, Adam, float32). Loop, population and peers take
           turns, and a large matrix product is timed beside every turn: 'of limit' is the useful FLOP of a step
           (the matrix products of forward and backward) at the rate of that product.
  fit      One call of modelspace.fit in a fresh process with nothing compiled: what a user waits for.
  scaling  DummyNet with K = 64 to 4096 and the same total work, each K in a fresh process: the throughput
           must stay flat, and so should the memory.
  curve    The speed-up of a whole fit over the loop for K = 1 to 4096, of DummyNet, the MLP and the CNN, with
           planning and without; the picture is drawn from it.
  ten-thousand
           The seed study: 10,000 seeds of DummyNet, 20 epochs, tested.

Peers, each in a process of its own that sleeps until its turn:

  torch.func  PyTorch's tutorial on model ensembling: all members stacked, vmap of grad over all at once.
  jax         Equinox and Optax, vmap over the members, jit of the whole step, at its own best K of a few.
  processes   One process a member: the plain loop with one thread, as many processes as cores, or four on a GPU.

With --device cuda every side computes on the GPU, its network and samples there before its clock starts, and the
clock stops when the GPU is done. The K grow to what fills one, 'peak GPU MiB' is what PyTorch allocated there, and
the targets are the GPU's own: 100 times the loop for DummyNet and the MLP at batch 32, elsewhere never slower,
and nothing of the throughput, since few members don't fill it. Nothing is set about TF32: by default cuDNN's
convolutions (loop, torch.func) and JAX's products round to it, PyTorch's products don't.

A ratio holds better than a time. On a busy machine look at its range, and at the rate of the matrix product,
which a quiet machine keeps from row to row; with as many threads as cores, one busy neighbour costs much.
"""

_KINDS = ("cpu", "cuda", "mps")

_EPILOG = """\
examples:
  python -m benchmarks                              everything but the curves and the seed study: under 20 minutes
  python -m benchmarks --only mlp                   the MLP at every batch size
  python -m benchmarks --only cnn-128 --threads 1 --json -
  python -m benchmarks --only lstm --peers none     against loop and limit alone
  python -m benchmarks --quick --only dummynet-32   does it run at all? seconds
  python -m benchmarks --device cuda --only dummynet --only mlp
  python -m benchmarks --only curve --json curve.json
  python -m benchmarks.picture curve.json docs/speedup.png

A whole run is also written to benchmarks/results/<date>-<device>-<threads>threads.json, with every repeat's
raw numbers (a GPU's file name has no threads in it); a part of one (--only, --quick) only where --json says.

Exit status: 0, every target met (or --no-assert, or --quick); 1, a target missed;
2, bad usage; 3, a measurement failed.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = made.add_argument_group("what is measured")
    what.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help=f"only this; may be repeated: {', '.join(w.name for w in WORKLOADS)}; a network without its batch "
        f"size; {', '.join((*PARTS, *EXTRAS))}",
    )
    what.add_argument("--curve", action="store_true", help="also the curves: about half an hour more")
    what.add_argument("--ten-thousand", action="store_true", help="also the seed study: some minutes more")
    what.add_argument("--all", action="store_true", help="both of these")
    what.add_argument(
        "--peers",
        type=_peers,
        metavar="NAMES",
        help=f"of {', '.join(PEERS)}, with commas between; or none (all of them; with --quick none)",
    )
    how = made.add_argument_group("how")
    how.add_argument(
        "--device",
        default=Settings.device,
        metavar="NAME",
        help=f"where all sides compute: cpu, cuda, cuda:1, mps ({Settings.device})",
    )
    how.add_argument(
        "--repeats", type=_positive, metavar="N", help=f"turns of each side ({Settings.repeats})"
    )
    how.add_argument(
        "--members", type=_positive, metavar="K", help=f"members in the step benchmarks ({Settings.members})"
    )
    how.add_argument(
        "--threads", type=_positive, metavar="N", help="cores for each side (as PyTorch chooses: all of them)"
    )
    how.add_argument(
        "--quick", action="store_true", help="a few members for a moment, nothing compiled, nothing asserted"
    )
    out = made.add_argument_group("what becomes of it")
    out.add_argument("--json", metavar="PATH", help="write the results there; '-' for standard output")
    out.add_argument("--no-assert", action="store_true", help="exit 0 although a target was missed")
    return made


def device(name: str) -> str:
    """The device that ``--device`` names, with its number: ``"cuda:0"``.

    Raises:
        ModelspaceError: this machine has none of that name.
    """
    found = load_device(name)
    if found.type not in _KINDS:  # "meta" is one, but computes nothing
        raise unknown_name("device", name, _KINDS)
    return str(torch.empty(0, device=found).device)


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return value


def _peers(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    names = text.split(",")
    for name in names:
        if name not in PEERS:
            raise argparse.ArgumentTypeError(f"no peer '{name}': {', '.join(PEERS)}, or none")
    return tuple(name for name in PEERS if name in names)
