"""How closely a float32 computation can be expected to meet the same one in float64.

No test compares two float32 computations more closely than this: which of them is nearer the truth depends on the
processor (the order of sums, fused multiply-adds, the instruction set), so each is held against float64.
"""

from __future__ import annotations

import torch

EPS = torch.finfo(torch.float32).eps


def rounding(num_terms: int, num_steps: int = 1, magnitude: float = 1.0) -> float:
    """The most by which a float32 result may differ from the exact one.

    A sum of n terms of one sign, in any order, is off by at most n eps of its size (Higham, Accuracy and Stability of
    Numerical Algorithms, section 4.2). A step that takes the sum's result into the next one adds as much again; a
    softmax or a division beside it, a few eps.

    Args:
        num_terms: The length of the longest sum.
        num_steps: How many such sums follow from one another.
        magnitude: Of the result.
    """
    return EPS * (num_terms + 8) * num_steps * magnitude
