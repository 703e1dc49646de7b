"""Dates and times as regular expressions, such that Python reads whatever matches.

A grammar's own formats follow RFC 3339, whose year 0000 and second 60 `datetime` refuses.
"""

from __future__ import annotations

_YEAR = r"[1-9][0-9]{3}"
_LEAP_YEAR = r"[1-9][0-9](0[48]|[2468][048]|[13579][26])"
_LONG, _SHORT = r"(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])", r"(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_DATE = rf"({_YEAR}-({_LONG}|{_SHORT}|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK})"

PATTERNS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}
"""By the name that a JSON schema's `format` has for it."""
