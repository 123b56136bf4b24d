"""The laws' text, read and evaluated by nothing of the library's own."""

import re
from fractions import Fraction

DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def applies(conditions, values):
    """Whether ``width ≡ 0 (mod 8), depth = 2`` is true."""
    for condition in filter(None, conditions.split(", ")):
        if found := re.fullmatch(r"(\w+) ≡ (\d+) \(mod (\d+)\)", condition):
            name, residue, modulus = found.groups()
            true = values[name] % int(modulus) == int(residue)
        elif found := re.fullmatch(r"(\d+) ≤ (\w+) ≤ (\d+)", condition):
            low, name, high = found.groups()
            true = int(low) <= values[name] <= int(high)
        elif found := re.fullmatch(r"(\w+) ≥ (\d+)", condition):
            true = values[found[1]] >= int(found[2])
        else:
            name, value = re.fullmatch(r"(\w+) = (.+)", condition).groups()
            true = repr(values[name]) == value
        if not true:
            return False
    return True


def evaluated(text, **values):
    """The value of the first line whose condition is true; None where none is."""
    for line in text.splitlines():
        if ": no law" in line:
            continue
        head, rest = line.split(" = ", 1)
        expression, _, conditions = rest.partition("   where ")
        names = re.fullmatch(r"\w+\((.*)\)", head)[1].split(", ")
        assert set(names) == set(values)
        if applies(conditions, values):
            return total(expression, values)
    return None


def total(expression, values):
    words = re.sub(r"^−", "− ", expression).split(" ")
    sign, found = 1, Fraction(0)
    for word in words:
        if word in "+−":
            sign = 1 if word == "+" else -1
        else:
            found += sign * term(word, values)
    return found


def term(text, values):
    product = Fraction(1)
    for factor in text.split("·"):
        if re.fullmatch(r"\d+(/\d+)?", factor):
            product *= Fraction(factor)
        else:
            name, power = re.fullmatch(r"(\w+?)([⁰¹²³⁴⁵⁶⁷⁸⁹]*)", factor).groups()
            product *= values[name] ** int(power.translate(DIGITS) or 1)
    return product
