"""The zoo of mistakes: small models as people write them by mistake, each with its corrected twin.

One mistake is one ``Fault`` in the tuple ``FAULTS`` of a file of ``doctor/ailments``.
"""

from importlib import import_module

from doctor.ailments.fault import Fault

_FAMILIES = (
    *(
        "simplex",
        "sigmoids",
        "outputs",
        "dimensions",
        "columns",
        "labels",
        "saturation",
        "reshapes",
        "batches",
        "masks",
    ),
    *("modes", "chance", "seeds", "registration", "unused", "gradients", "frozen", "ties", "constants"),
    *("precision", "start", "symmetry", "depth", "inplace", "backward", "optimizers"),
)
FAULTS: tuple[Fault, ...] = tuple(
    fault for family in _FAMILIES for fault in import_module(f"doctor.ailments.{family}").FAULTS
)
