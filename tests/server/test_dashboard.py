from __future__ import annotations

import json
import re
from pathlib import Path

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text(encoding="utf-8"))


def test_everything_that_the_dashboard_asks_for_is_told(server):
    with_types = re.findall(r"^# TYPE (\w+) (\w+)$", server.service.metrics.write().decode(), re.MULTILINE)
    endings = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
    told = {name + ending for name, kind in with_types for ending in endings.get(kind, ("",))}
    asked = {
        name
        for panel in DASHBOARD["panels"]
        for one in panel["targets"]
        for name in re.findall(r"deepen_\w+", one["expr"])
    }
    assert asked and asked <= told
