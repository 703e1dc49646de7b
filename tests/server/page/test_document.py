from __future__ import annotations

import base64
import hashlib
import re

from deepen_llm.server.page.document import POLICY, SCRIPT, STYLES, render_document

STORY = "the cat sat on the mat."


def test_the_page_fetches_nothing_and_runs_its_own_script_alone(make_ensemble):
    document = render_document(make_ensemble([STORY]))
    assert not re.search(r"(?:src|href)=|url\(|@import|https?://", document)
    (script,) = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY and "frame-ancestors 'none'" in POLICY


def test_neither_script_nor_style_can_end_early():
    assert "</" not in SCRIPT and "<!--" not in SCRIPT
    assert "</" not in STYLES


def test_every_member_has_a_switch_and_a_weight_to_begin_with(make_ensemble, read_page):
    page = read_page(render_document(make_ensemble([STORY], weights=(0.75, 0.25))))
    assert [member["data-name"] for member in page.find("member")] == ["bpe", "sentencepiece"]
    assert [box["value"] for box in page.find("prior")] == ["0.75", "0.25"]
    assert len(page.find("on")) == 2
    assert "(main)" in page.text


def test_names_of_members_are_text(make_ensemble, read_page):
    ensemble = make_ensemble([STORY])
    ensemble.members[0].name = '<script>alert("x")</script>'
    page = read_page(render_document(ensemble))
    assert [name for name, _ in page.elements].count("script") == 1
    assert page.find("member")[0]["data-name"] == ensemble.members[0].name


def test_members_without_a_chat_template_are_named(make_ensemble):
    ensemble = make_ensemble([STORY])
    silent = [member.name for member in ensemble.members if not member.vocabulary.has_chat_template]
    document = render_document(ensemble)
    assert (f"No chat template: {', '.join(silent)}" in document) == bool(silent)
    assert f'data-chat="{"yes" if ensemble.has_chat_template else "no"}"' in document
