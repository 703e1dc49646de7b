from __future__ import annotations

import base64
import hashlib
import re

from deepen_llm.server.page.document import DOCUMENT, POLICY, SCRIPT, STYLES


def test_the_page_fetches_nothing_and_runs_its_own_script_alone():
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", DOCUMENT)
    (script,) = re.findall(r"<script>(.*?)</script>", DOCUMENT, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY and "frame-ancestors 'none'" in POLICY


def test_neither_script_nor_style_can_end_early():
    assert "</" not in SCRIPT and "<!--" not in SCRIPT
    assert "</" not in STYLES


def test_the_document_is_whole(read_page):
    page = read_page(DOCUMENT)
    assert page.find("question") and page.find("send") and page.find("stop") and page.find("again")
