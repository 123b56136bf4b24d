"""Laws: one quantity of a family in closed form, with where it holds and on how many members it was checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelspace.errors import ModelspaceError
from modelspace.family._axes import said
from modelspace.family._polynomial import Polynomial, latex_name
from modelspace.family._progression import Progression


@dataclass(frozen=True)
class Piece:
    """One polynomial, and the members that it is for.

    Attributes:
        fixed: The hyper-parameters that have one value here, by name.
        along: Where the others may be.
        polynomial: The polynomial in the others; None where none was found.
        found_from: How many members it was found from.
        checked_on: How many members agreed with it, exactly, that it was not found from.
        reason: Why there is none; empty where there is one.
    """

    fixed: tuple[tuple[str, Any], ...]
    along: tuple[tuple[str, Progression], ...]
    polynomial: Polynomial | None = None
    found_from: int = 0
    checked_on: int = 0
    reason: str = ""

    def concerns(self, member: Mapping[str, Any]) -> bool:
        """Whether a member is one of those that the piece is for."""
        same = all(member[name] == value for name, value in self.fixed)
        return same and all(member[name] in progression for name, progression in self.along)

    @property
    def conditions(self) -> str:
        """``depth = 2, width ≡ 0 (mod 8)``."""
        parts = [f"{name} = {value!r}" for name, value in self.fixed]
        return ", ".join(filter(None, [*parts, *(p.condition(name) for name, p in self.along)]))


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
        return any(piece.polynomial for piece in self.pieces)

    def piece(self, member: Mapping[str, Any]) -> Piece | None:
        """The piece with a polynomial for a member; None where there is none."""
        return next((p for p in self.pieces if p.polynomial and p.concerns(member)), None)

    def value(self, member: Mapping[str, Any]) -> int | None:
        """What the law gives; None where none holds."""
        piece = self.piece(member)
        if piece is None or piece.polynomial is None:
            return None
        value = piece.polynomial(member)
        # No count is a fraction: such a member is outside of what the law was found on.
        return value.numerator if value.denominator == 1 else None

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
        return "\n".join(_line(head, piece) for piece in self.pieces)

    def __repr__(self) -> str:
        return str(self)

    def latex(self) -> str:
        r"""The law for LaTeX's mathematical mode; several pieces as ``cases``.

        Example:
            >>> from modelspace.family import Family
            >>> Family(nn.Bilinear, in1_features=[1, 2], in2_features=3, out_features=1).laws["n"].latex()
            'n(\\mathrm{in1\\_features}) = 3\\,\\mathrm{in1\\_features} + 1'
        """
        symbol = "n" if self.quantity == "n" else latex_name(self.quantity)
        head = f"{symbol}({', '.join(latex_name(name) for name in self.variables)}) = "
        parts = [(_latex_right(piece), _latex_conditions(piece)) for piece in self.pieces]
        if len(parts) == 1:
            right, where = parts[0]
            return head + right + (rf" \quad ({where})" if where else "")
        cases = r" \\ ".join(f"{right} & {where}" for right, where in parts)
        return rf"{head}\begin{{cases}} {cases} \end{{cases}}"

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"


def _line(head: str, piece: Piece) -> str:
    where = f"   where {piece.conditions}" if piece.conditions else ""
    if piece.polynomial is None:
        return f"{head}: no law, each member is traced ({piece.reason}){where}"
    return f"{head} = {piece.polynomial}{where}"


def _latex_right(piece: Piece) -> str:
    return r"\text{no law}" if piece.polynomial is None else piece.polynomial.latex()


def _latex_conditions(piece: Piece) -> str:
    parts = [f"{latex_name(name)} = {_latex_value(value)}" for name, value in piece.fixed]
    for name, along in piece.along:
        symbol = latex_name(name)
        if along.step > 1:
            parts.append(rf"{symbol} \equiv {along.start % along.step} \pmod{{{along.step}}}")
        if along.stop is not None:
            parts.append(rf"{along.start} \le {symbol} \le {along.stop}")
        elif along.start > max(1, along.step):
            parts.append(rf"{symbol} \ge {along.start}")
    return r",\ ".join(parts)


def _latex_value(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = str(value)
    for character in "\\{}$&#^_%~":
        text = text.replace(character, " " if character in "\\{}^~" else f"\\{character}")
    return rf"\text{{{text}}}"
