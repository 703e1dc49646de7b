from __future__ import annotations

from deepen_llm.server.page.members import describe_members

STORY = "the cat sat on the mat."


def test_every_member_has_a_switch_and_a_weight_to_begin_with(make_ensemble, read_page):
    page = read_page(describe_members(make_ensemble([STORY], weights=(0.75, 0.25)))["html"])
    assert [member["data-name"] for member in page.find("member")] == ["bpe", "sentencepiece"]
    assert [box["value"] for box in page.find("prior")] == ["0.75", "0.25"]
    assert len(page.find("on")) == 2
    assert "(main)" in page.text


def test_names_of_members_are_text(make_ensemble, read_page):
    ensemble = make_ensemble([STORY])
    ensemble.members[0].name = '<script>alert("x")</script>'
    page = read_page(describe_members(ensemble)["html"])
    assert "script" not in [name for name, _ in page.elements]
    assert page.find("member")[0]["data-name"] == ensemble.members[0].name


def test_members_without_a_chat_template_are_named(make_ensemble):
    ensemble = make_ensemble([STORY])
    assert describe_members(ensemble)["is_chat"] is True
    ensemble.members[1].vocabulary.has_chat_template = False
    try:
        described = describe_members(ensemble)
    finally:
        ensemble.members[1].vocabulary.has_chat_template = True
    assert described["is_chat"] is False
    assert "No chat template: sentencepiece." in described["html"]
