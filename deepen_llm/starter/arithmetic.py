"""Sums, differences and products with worked steps.

Every fifth pair of operands is held out: it never occurs in training, for any operation.
"""

from __future__ import annotations

from collections.abc import Iterator

OPERATIONS = ("+", "-", "*")
"""One for each part."""

HELD_OUT_QUESTIONS = {
    "+": ("Please work out {} + {}.", "Work out the sum of {} and {}."),
    "-": ("Please work out {} - {}.", "Work out the difference of {} and {}."),
    "*": ("Please work out {} * {}.", "Work out the product of {} and {}."),
}


def is_held_out(first: int, second: int) -> bool:
    """True for operand pairs kept for evaluation."""
    return (first * 7 + second * 3) % 5 == 0


def solve(operation: str, first: int, second: int) -> int:
    """The result of the operation."""
    return {"+": first + second, "-": first - second, "*": first * second}[operation]


def write_steps(operation: str, first: int, second: int) -> str:
    """The worked steps, which end with "so" and the result.

    The first operand has two digits; the second has two, or one where the operation is "*".
    """
    tens, ones = divmod(first, 10)
    more_tens, more_ones = divmod(second, 10)
    if operation == "+":
        low = ones + more_ones
        high = tens + more_tens + low // 10
        steps = f"{ones}+{more_ones}={low}, {tens}+{more_tens}+{low // 10}={high}"
    elif operation == "-":
        borrowed = ones < more_ones
        minuend = ones + 10 * borrowed
        rest = tens - more_tens - borrowed
        steps = f"{minuend}-{more_ones}={minuend - more_ones}"
        steps += f", {tens}-{more_tens}-{int(borrowed)}={rest}"
    else:
        low = ones * second
        middle = tens * second
        high = middle + low // 10
        steps = f"{ones}*{second}={low}, {tens}*{second}={middle}"
        steps += f", {middle}+{low // 10}={high}"
    return f"{steps}, so {solve(operation, first, second)}"


def operand_pairs(operation: str) -> Iterator[tuple[int, int]]:
    """Every pair of operands of an operation, in order."""
    for first in range(11, 100):
        seconds = range(2, 10) if operation == "*" else range(11, 100)
        for second in seconds:
            if operation != "-" or second < first:
                yield first, second
