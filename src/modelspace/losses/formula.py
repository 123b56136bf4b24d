"""A formula in LaTeX as plain text, for a terminal."""

import re

_SYMBOLS = dict(
    re.findall(
        r"(\w+)=(\S*)",
        "alpha=α beta=β gamma=γ delta=δ epsilon=ε varepsilon=ε eta=η theta=θ kappa=κ lambda=λ mu=μ nu=ν xi=ξ pi=π "
        "rho=ρ sigma=σ tau=τ phi=φ varphi=φ omega=ω Gamma=Γ Delta=Δ Sigma=Σ Phi=Φ ell=ℓ sum=Σ prod=Π int=∫ infty=∞ "
        "partial=∂ cdot=· times=× le=≤ leq=≤ ge=≥ geq=≥ ne=≠ neq=≠ approx=≈ sim=∼ propto=∝ to=→ in=∈ notin=∉ pm=± "
        "colon=: mid=| vert=| lvert=| rvert=| Vert=‖ lVert=‖ rVert=‖ langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋ forall=∀ "
        "cup=∪ cap=∩ setminus=∖ subset=⊂ ldots=… cdots=… dots=… prime=′ circ=∘ neg=¬ land=∧ lor=∨ odot=⊙ "
        "left= right= textstyle= displaystyle= limits= big= Big= bigl= bigr= Bigl= Bigr= bigg=",
    )
) | {"quad": " ", "qquad": "  "}
_FUNCTIONS = {"log", "exp", "tan", "tanh", "arctan", "sin", "cos", "cosh", "sinh", "max", "min", "sign"}
_SPACES = {"\\,": " ", "\\;": " ", "\\:": " ", "\\!": "", "\\ ": " ", "\\{": "{", "\\}": "}", "\\|": "‖"}
_WORDS = {"operatorname", "mathrm", "text", "textrm", "mathbf", "mathcal", "boldsymbol", "mathbb", "mathit"}
_RAISED = dict(zip("0123456789+-−=()nTij", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿᵀⁱʲ", strict=True))
_LOWERED = dict(zip("0123456789+-−=()aeijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))
_ACCENTS = {"bar": "\u0304", "hat": "\u0302", "tilde": "\u0303", "overline": "\u0304"}
_FRACTIONS = {"\\frac", "\\tfrac", "\\dfrac"}
_OPENING = (["("], ["\\left"])
_HALVES = {("1", "2"): "½", ("1", "3"): "⅓", ("1", "4"): "¼"}
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|[{}^_&]|[^\\{}^_&]")


def readable(latex: str) -> str:
    r"""A formula of the kind that ``Properties`` holds, in plain Unicode: fractions with a slash, cases with 'if'.

    Args:
        latex: The formula; commands that are not known lose their backslash and stay words.

    Example:
        >>> readable(r"\log(1 + e^{-v})")
        'log(1 + e^(−v))'
        >>> readable(r"\begin{cases}\tfrac12 r^2 & |r| \le \delta\\ \delta |r| & |r| > \delta\end{cases}")
        '½ r² if |r| ≤ δ; δ |r| if |r| > δ'
    """
    text = re.sub(r"\\begin\{cases\}", "", latex)
    text = re.sub(r"\s*\\end\{cases\}", "", text)
    tokens = _TOKEN.findall(text)
    found = _sequence(tokens, 0)[0]
    found = re.sub(r"\s+", " ", found).strip()
    found = re.sub(r" ([,;:.!)\]])", r"\1", re.sub(r"([(\[]) ", r"\1", found))
    found = re.sub(rf"\b({'|'.join(_FUNCTIONS)}) \(", r"\1(", found)
    return found.replace("-", "−")


def _sequence(tokens: list[str], at: int) -> tuple[str, int]:
    """Everything up to the end of the group, and where it ends."""
    parts: list[str] = []
    while at < len(tokens) and tokens[at] != "}":
        token = tokens[at]
        if token in "^_":
            script, at = _argument(tokens, at + 1)
            parts.append(_script(script, token))
        elif token == "&":
            parts.append(" if ")
            at += 1
        elif token == "\\\\":
            parts.append("; ")
            at += 1
        else:
            piece, at = _argument(tokens, at)
            if token in _FRACTIONS and "/" in piece and (_applied(parts) or tokens[at : at + 1] in _OPENING):
                piece = f"({piece})"
            if token.startswith("\\") and piece[-1:].isalpha() and len(piece) > 1 and _tight(tokens, at):
                piece += " "
            parts.append(piece)
    return "".join(parts), at


def _argument(tokens: list[str], at: int) -> tuple[str, int]:
    """One token, one group or one command with its arguments."""
    while at < len(tokens) and tokens[at] == " ":
        if at + 1 == len(tokens) or tokens[at + 1] in "^_&}":
            return "", at + 1
        return " ", at + 1
    if at == len(tokens):
        return "", at
    token = tokens[at]
    if token == "{":
        inner, at = _sequence(tokens, at + 1)
        return inner, at + 1
    if not token.startswith("\\") or token == "\\\\":
        return token, at + 1
    if token in _SPACES:
        return _SPACES[token], at + 1
    return _command(token[1:].rstrip("*"), tokens, at + 1)


def _command(name: str, tokens: list[str], at: int) -> tuple[str, int]:
    if f"\\{name}" in _FRACTIONS:
        above, at = _argument(tokens, _past_spaces(tokens, at))
        below, at = _argument(tokens, _past_spaces(tokens, at))
        short = _HALVES.get((above, below))
        return short or f"{_grouped(above)}/{_grouped(below)}", at
    if name == "sqrt":
        inner, at = _argument(tokens, _past_spaces(tokens, at))
        return f"√({inner})" if len(inner) > 1 else f"√{inner}", at
    if name in _ACCENTS:
        inner, at = _argument(tokens, _past_spaces(tokens, at))
        return inner + _ACCENTS[name], at
    if name in _WORDS:
        return _argument(tokens, _past_spaces(tokens, at))
    return _SYMBOLS.get(name, name), at


def _applied(parts: list[str]) -> bool:
    """Whether what came last is a function that is applied to what follows."""
    last = next((part.strip() for part in reversed(parts) if part.strip()), "")
    return last in _FUNCTIONS


def _past_spaces(tokens: list[str], at: int) -> int:
    while at < len(tokens) and tokens[at] == " ":
        at += 1
    return at


def _tight(tokens: list[str], at: int) -> bool:
    """Whether what follows a word would run into it."""
    return at < len(tokens) and (tokens[at][0].isalnum() or tokens[at][0] == "\\")


def _grouped(text: str) -> str:
    return text if re.fullmatch(r"[\w′.]+|\(.*\)|\|[^|]*\|", text) else f"({text})"


def _script(text: str, mark: str) -> str:
    text = text.strip()
    table = _RAISED if mark == "^" else _LOWERED
    if text and all(letter in table for letter in text) and (mark == "_" or not text.startswith("-")):
        return "".join(table[letter] for letter in text)
    return f"{mark}{text}" if len(text) == 1 else f"{mark}({text})"
