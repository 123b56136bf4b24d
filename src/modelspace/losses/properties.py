"""What is known of a loss, as data that a test proves."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Properties:
    """The properties of a loss ℓ(z, y) as a function of the outputs z, at its own parameters.

    Each is proved by a machine in the tests: constants on grids and by random search, calibration and properness by
    minimising the conditional risk E_y ℓ(z, y).

    Attributes:
        formula: ℓ, in LaTeX.
        convex: Whether ℓ is convex in z.
        lipschitz: The least L with |ℓ(z, y) − ℓ(z′, y)| ≤ L ‖z − z′‖₂ for all z, z′, y, whatever the number of
            classes or places; inf where there is none; None where nothing is stated.
        smooth: The least L with ‖∇ℓ(z, y) − ∇ℓ(z′, y)‖₂ ≤ L ‖z − z′‖₂, in the same way; inf where there is none (a
            kink, or a curvature that grows without limit); None where nothing is stated.
        bound: The least upper bound of ℓ; inf where there is none.
        minimiser: What minimises the conditional risk: ``"mean"``, ``"median"``, or a formula in the class
            probabilities; see also the loss's own ``minimiser``.
        calibrated: Whether minimising the risk gives the best classifier (Bartlett, Jordan, McAuliffe 2006); None
            where labels are no classes.
        proper: Whether the minimiser gives back the probabilities, through ``probability``; None where the loss
            has no probabilities.
        source: Paper or standard.
        notes: What else to know; may be empty.
    """

    formula: str
    convex: bool
    lipschitz: float | None = math.inf
    smooth: float | None = math.inf
    bound: float = math.inf
    minimiser: str = ""
    calibrated: bool | None = None
    proper: bool | None = None
    source: str = ""
    notes: str = ""
