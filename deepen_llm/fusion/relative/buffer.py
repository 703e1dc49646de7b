"""Memory that is used again at each step."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor


@final
class RowBuffer:
    """Memory for gathered rows. On CPU the system takes ten times as long to hand out new pages as to fill old ones."""

    def __init__(self) -> None:
        self._rows = torch.empty(0)
        self._widened = torch.empty(0)

    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows `(*ids.shape, width)` of a table `(rows, width)`, in float32; they last until the next call."""
        num_rows = ids.numel()
        if self._rows.shape != (max(num_rows, len(self._rows)), table.shape[1]):
            with torch.inference_mode(mode=False):
                self._rows = table.new_empty(num_rows, table.shape[1])
                self._widened = self._rows if table.dtype == torch.float32 else self._rows.float()
        rows = torch.index_select(table, 0, ids.flatten(), out=self._rows[:num_rows])
        if table.dtype != torch.float32:
            rows = self._widened[:num_rows].copy_(rows)
        return rows.view(*ids.shape, -1)
