"""What a JSON schema calls a `format`, as regular expressions such that Python reads whatever matches.

A grammar's own formats follow their RFCs, which allow what Python's types refuse: the year 0000 and the second 60 of
RFC 3339, the address `a:` of RFC 3986. Those that pydantic writes and no RFC knows (`uuid4`, `base64`) are here as
well. Any other format only says what a text is for: it is a text like any other.
"""

from __future__ import annotations

_YEAR = r"[1-9][0-9]{3}"
_LEAP_YEAR = r"[1-9][0-9](0[48]|[2468][048]|[13579][26])"
_LONG, _SHORT = r"(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])", r"(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_DATE = rf"({_YEAR}-({_LONG}|{_SHORT}|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK})"
_HOURS = r"T([0-9]{1,2}H([0-9]{1,2}M)?([0-9]{1,2}S)?|[0-9]{1,2}M([0-9]{1,2}S)?|[0-9]{1,2}S)"

_LABEL = r"[a-z0-9]{1,20}(-[a-z0-9]{1,20}){0,3}"
_HOST = rf"({_LABEL}\.){{0,4}}[a-z]{{2,20}}"  # its end is no number, which would be read as an address
_WHERE = r"(/[A-Za-z0-9._~%@+=,-]{0,80}){0,10}(\?[A-Za-z0-9._~%@+=,&/-]{0,200})?(#[A-Za-z0-9._~%/-]{0,80})?"
_MAILBOX = (
    rf"[A-Za-z0-9]{{1,20}}([._+-][A-Za-z0-9]{{1,20}}){{0,3}}@({_LABEL}\.){{1,4}}(com|org|net|edu|gov|info|[a-z]{{2}})"
)

_NUMBER = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4, _IPV6 = rf"({_NUMBER}\.){{3}}{_NUMBER}", r"([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}"
_HEX = "[0-9a-f]"


_AT_HOST = rf"://{_HOST}(:[1-9][0-9]{{0,3}})?{_WHERE}"
_ANY_URL = (
    rf"^([a-z][a-z0-9]{{1,11}}{_AT_HOST}|file:///[A-Za-z0-9._/-]{{1,200}}|(urn|tag|tel):[A-Za-z0-9.:+-]{{2,80}})$"
)


def _base64(last: str) -> str:
    char = f"[A-Za-z0-9{last}]"
    return rf"^({char}{{4}})*({char}[AQgw]==|{char}{{2}}[AEIMQUYcgkosw048]=)?$"


PATTERNS = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "duration": rf"^P([0-9]{{1,4}}W|[0-9]{{1,4}}D({_HOURS})?|{_HOURS})$",
    "uri": _ANY_URL,
    "http-url": rf"^https?{_AT_HOST}$",
    "email": f"^{_MAILBOX}$",
    "ipvanyaddress": f"^{_IPV4}$",
    "ipv4network": f"^{_IPV4}(/32)?$",
    "ipvanynetwork": f"^{_IPV4}(/32)?$",
    "ipv4interface": f"^{_IPV4}(/([12]?[0-9]|3[0-2]))?$",
    "ipvanyinterface": f"^{_IPV4}(/([12]?[0-9]|3[0-2]))?$",
    "ipv6network": f"^{_IPV6}(/128)?$",
    "ipv6interface": f"^{_IPV6}(/([1-9]?[0-9]|1[01][0-9]|12[0-8]))?$",
    "base64": _base64("+/"),
    "base64url": _base64("_-"),
    "fraction": r"^-?[0-9]{1,9}(/[1-9][0-9]{0,8})?$",
    **{f"uuid{n}": f"^{_HEX}{{8}}-{_HEX}{{4}}-{n}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}$" for n in range(1, 9)},
}
"""By the name that a JSON schema's `format` has for it."""

KNOWN_FORMATS = ("hostname", "ipv4", "ipv6", "uuid")
"""Formats that a grammar knows by itself, and Python reads."""
