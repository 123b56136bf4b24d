"""Polynomials with rational coefficients, found exactly from values on a grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import prod

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Polynomial:
    """Σ c · x₁^{e₁} · x₂^{e₂} · … with rational c.

    Attributes:
        variables: x₁, x₂, … by name.
        terms: The exponents (e₁, e₂, …) and the coefficient of each term that isn't zero, highest degree first.

    Example:
        >>> p = interpolated(("x", "y"), [(1, 2), (1, 2)], {(1, 1): 3, (1, 2): 5, (2, 1): 5, (2, 2): 9})
        >>> print(p)
        2·x·y + 1
        >>> p({"x": 10, "y": 7})
        Fraction(141, 1)
    """

    variables: tuple[str, ...]
    terms: tuple[tuple[tuple[int, ...], Fraction], ...]

    def __call__(self, values: Mapping[str, int]) -> Fraction:
        """Evaluate, exactly.

        Args:
            values: One integer a variable; other names are ignored.
        """
        at = [values[name] for name in self.variables]
        return sum(
            (c * prod(x**e for x, e in zip(at, exponents, strict=True)) for exponents, c in self.terms),
            Fraction(0),
        )

    def __str__(self) -> str:
        return self._joined(
            "·", lambda name, e: name + (str(e).translate(_SUPERSCRIPTS) if e > 1 else ""), str
        )

    def latex(self) -> str:
        """The polynomial for LaTeX's mathematical mode."""
        text = self._joined(
            r"\,",
            lambda name, e: latex_name(name) + (f"^{{{e}}}" if e > 1 else ""),
            lambda c: str(c) if c.denominator == 1 else rf"\frac{{{c.numerator}}}{{{c.denominator}}}",
        )
        return text.replace("−", "-")

    def _joined(self, times: str, power, number) -> str:
        parts = []
        for exponents, c in self.terms:
            factors = [power(name, e) for name, e in zip(self.variables, exponents, strict=True) if e]
            if abs(c) != 1 or not factors:
                factors.insert(0, number(abs(c)))
            sign = (" − " if c < 0 else " + ") if parts else ("−" if c < 0 else "")
            parts.append(sign + times.join(factors))
        return "".join(parts) or "0"


def latex_name(name: str) -> str:
    """A hyper-parameter's name, upright."""
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def interpolated(
    variables: Sequence[str], nodes: Sequence[Sequence[int]], values: Mapping[tuple[int, ...], int]
) -> Polynomial:
    """The only polynomial of these degrees through these values.

    With L_j the Lagrange polynomials of one variable's nodes, p = Σ_j f(node_j) · L_j, one variable after
    another, in rational arithmetic: no rounding, and so no tolerance in what follows from it.

    Args:
        variables: Their names.
        nodes: d + 1 different integers for each variable, where d is the degree in it.
        values: The value at every point of the nodes' product.

    Returns:
        The polynomial.

    Source:
        Lagrange's interpolation formula, as in Davis, *Interpolation and Approximation*, 1963, ch. 2.
    """
    table = {index: Fraction(values[at]) for index, at in zip(_indices(nodes), product(*nodes), strict=True)}
    for place, own in enumerate(nodes):
        basis = [_lagrange(own, j) for j in range(len(own))]
        table = {
            index: sum(
                (
                    basis[j][index[place]] * table[(*index[:place], j, *index[place + 1 :])]
                    for j in range(len(own))
                ),
                Fraction(0),
            )
            for index in table
        }
    kept = [(exponents, c) for exponents, c in table.items() if c]
    kept.sort(key=lambda term: (sum(term[0]), term[0]), reverse=True)
    return Polynomial(tuple(variables), tuple(kept))


def _indices(nodes: Sequence[Sequence[int]]) -> product:
    return product(*(range(len(own)) for own in nodes))


def _lagrange(nodes: Sequence[int], j: int) -> list[Fraction]:
    """Coefficients, lowest first, of the polynomial that is 1 at node j and 0 at the others."""
    coefficients = [Fraction(1)]
    for m, node in enumerate(nodes):
        if m != j:
            scale = Fraction(1, nodes[j] - node)
            shifted = [Fraction(0), *coefficients]
            padded = [*coefficients, Fraction(0)]
            coefficients = [scale * (a - node * b) for a, b in zip(shifted, padded, strict=True)]
    return coefficients
