"""Laws: one quantity of a family in closed form, with where it holds and on how many members it was checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sympy import Poly, Rational

from modelspace.errors import ModelspaceError
from modelspace.family._axes import is_integer, said
from modelspace.show import superscript


@dataclass(frozen=True)
class Progression:
    """The integers start, start + step, start + 2·step and so on.

    Attributes:
        start: The first.
        step: The difference, at least 1.
        stop: The last one allowed; without end where None.
    """

    start: int
    step: int = 1
    stop: int | None = None

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int) or not is_integer(value):
            return False
        within = value >= self.start and (self.stop is None or value <= self.stop)
        return within and (value - self.start) % self.step == 0

    def __getitem__(self, index: int) -> int:
        return self.start + index * self.step

    def conditions(self, name: str, phrases: tuple[str, str, str]) -> list[str]:
        """What is asked of a value, as far as it isn't clear; phrases of a residue, a range and a least one."""
        residue, between, least = phrases
        parts = []
        if self.step > 1:
            parts.append(residue.format(name, self.start % self.step, self.step))
        if self.stop is not None:
            parts.append(between.format(name, self.start, self.stop))
        elif self.start > max(1, self.step):
            parts.append(least.format(name, self.start))
        return parts


_PLAIN = ("{} ≡ {} (mod {})", "{1} ≤ {0} ≤ {2}", "{} ≥ {}")
_LATEX = (r"{} \equiv {} \pmod{{{}}}", r"{1} \le {0} \le {2}", r"{} \ge {}")


@dataclass(frozen=True)
class Piece:
    """One polynomial, and the members that it is for.

    Attributes:
        fixed: The hyper-parameters that have one value here, by name.
        along: Where the others may be.
        polynomial: The polynomial in the others, with rational coefficients; None where none was found.
        found_from: How many members it was found from.
        checked_on: How many members agreed with it, exactly, that it was not found from.
        reason: Why there is none; empty where there is one.
    """

    fixed: tuple[tuple[str, Any], ...]
    along: tuple[tuple[str, Progression], ...]
    polynomial: Poly | None = None
    found_from: int = 0
    checked_on: int = 0
    reason: str = ""

    def concerns(self, member: Mapping[str, Any]) -> bool:
        """Whether a member is one of those that the piece is for."""
        same = all(member[name] == value for name, value in self.fixed)
        return same and all(member[name] in progression for name, progression in self.along)

    @property
    def formula(self) -> str | None:
        """``3·width² + 2·width``."""
        return None if self.polynomial is None else _text(self.polynomial)

    @property
    def conditions(self) -> str:
        """``depth = 2, width ≡ 0 (mod 8)``."""
        parts = [f"{name} = {value!r}" for name, value in self.fixed]
        return ", ".join([*parts, *(c for name, p in self.along for c in p.conditions(name, _PLAIN))])


@dataclass(frozen=True)
class Law:
    """One quantity as a function of the hyper-parameters, exact wherever it holds.

    Each piece was found from few small members by exact interpolation and then had to give, to the last
    digit, the values of members that were not used to find it. That is a proof for those members, and for
    others as good as their regularity: a layer that is added at one width only is seen by a trace alone.

    Attributes:
        quantity: ``"n"``, ``"forward_flops"``, ``"backward_flops"`` or ``"peak_bytes"``.
        variables: The hyper-parameters.
        pieces: One polynomial for each part of the family; a single one where one law holds everywhere.
    """

    quantity: str
    variables: tuple[str, ...]
    pieces: tuple[Piece, ...]

    @property
    def holds(self) -> bool:
        """Whether any part of the family has a law."""
        return any(piece.polynomial is not None for piece in self.pieces)

    def piece(self, member: Mapping[str, Any]) -> Piece | None:
        """The piece with a polynomial for a member; None where there is none."""
        return next((p for p in self.pieces if p.polynomial is not None and p.concerns(member)), None)

    def refuted(self, member: Mapping[str, Any], traced: int) -> "Law":
        """The law without the piece that a traced member contradicts."""
        wrong, value = self.piece(member), self.value(member)
        why = f"a law was found, but it gives {value:,} at {said(member)}, where the trace gives {traced:,}"
        pieces = (replace(p, polynomial=None, reason=why) if p is wrong else p for p in self.pieces)
        return replace(self, pieces=tuple(pieces))

    def value(self, member: Mapping[str, Any]) -> int | None:
        """What the law gives; None where none holds."""
        piece = self.piece(member)
        if piece is None or piece.polynomial is None:
            return None
        value: Any = piece.polynomial(*(member[name] for name, _ in piece.along))
        # No count is a fraction: such a member is outside of what the law was found on.
        return int(value) if value.is_Integer else None

    def __call__(self, **member: Any) -> int:
        """What the law gives for one value a hyper-parameter; nothing is built.

        Raises:
            ModelspaceError: names differ from the law's variables, or no law holds there.
        """
        if set(member) != set(self.variables):
            raise ModelspaceError(
                f"{self.quantity} is a function of {', '.join(self.variables)}; received {said(member) or 'nothing'}"
            )
        value = self.value(member)
        if value is None:
            reasons = [p.reason for p in self.pieces if p.reason and p.concerns(member)]
            why = reasons[0] if reasons else f"it was found for other members: {self}"
            raise ModelspaceError(
                f"no law gives {self.quantity} at {said(member)} ({why}); family.measure(…) traces it"
            )
        return value

    def __str__(self) -> str:
        head = f"{self.quantity}({', '.join(self.variables)})"
        lines = []
        for piece in self.pieces:
            where = f"   where {piece.conditions}" if piece.conditions else ""
            no_law = f": no law, each member is traced ({piece.reason})"
            lines.append(head + (no_law if piece.formula is None else f" = {piece.formula}") + where)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def latex(self) -> str:
        r"""The law for LaTeX's mathematical mode; several pieces as ``cases``.

        Example:
            >>> from modelspace.family import Family
            >>> Family(nn.Bilinear, in1_features=[1, 2], in2_features=3, out_features=1).laws["n"].latex()
            'n(\\mathrm{in1\\_features}) = 3\\,\\mathrm{in1\\_features} + 1'
        """
        symbol = "n" if self.quantity == "n" else _latex_name(self.quantity)
        head = f"{symbol}({', '.join(_latex_name(name) for name in self.variables)}) = "
        parts = []
        for piece in self.pieces:
            fixed = [f"{_latex_name(name)} = {_latex_value(value)}" for name, value in piece.fixed]
            where = [c for name, along in piece.along for c in along.conditions(_latex_name(name), _LATEX)]
            right = r"\text{no law}" if piece.polynomial is None else _latex(piece.polynomial)
            parts.append((right, r",\ ".join([*fixed, *where])))
        if len(parts) == 1:
            right, where = parts[0]
            return head + right + (rf" \quad ({where})" if where else "")
        cases = r" \\ ".join(f"{right} & {where}" for right, where in parts)
        return rf"{head}\begin{{cases}} {cases} \end{{cases}}"

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"


def _text(polynomial: Poly) -> str:
    """``2·x·y + 1``, the highest degree first."""
    return _joined(polynomial, "·", lambda name, e: name + (superscript(e) if e > 1 else ""), str)


def _latex(polynomial: Poly) -> str:
    def power(name: str, exponent: int) -> str:
        return _latex_name(name) + (f"^{{{exponent}}}" if exponent > 1 else "")

    def number(c: Rational) -> str:
        return str(c) if c.q == 1 else rf"\frac{{{c.p}}}{{{c.q}}}"

    return _joined(polynomial, r"\,", power, number).replace("−", "-")


def _joined(
    polynomial: Poly, times: str, power: Callable[[str, int], str], number: Callable[[Rational], str]
) -> str:
    parts = []
    for exponents, c in polynomial.terms(order="grlex"):
        factors = [power(str(x), e) for x, e in zip(polynomial.gens, exponents, strict=True) if e]
        if abs(c) != 1 or not factors:
            factors.insert(0, number(abs(c)))
        sign = (" − " if c < 0 else " + ") if parts else ("−" if c < 0 else "")
        parts.append(sign + times.join(factors))
    return "".join(parts)


def _latex_name(name: str) -> str:
    """A hyper-parameter's name, upright."""
    escaped = name.replace("_", r"\_")
    return rf"\mathrm{{{escaped}}}"


def _latex_value(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = str(value)
    for character in "\\{}$&#^_%~":
        text = text.replace(character, " " if character in "\\{}^~" else f"\\{character}")
    return rf"\text{{{text}}}"
