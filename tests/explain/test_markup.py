from __future__ import annotations

import pytest

from deepen_llm.explain.markup import Markup, element, escape, join


def test_text_among_the_children_is_escaped_and_elements_are_not():
    inner = element("b", "<b>&\"'")
    assert inner == "<b>&lt;b&gt;&amp;&quot;&#x27;</b>"
    assert element("p", "1 < 2, ", inner) == f"<p>1 &lt; 2, {inner}</p>"
    assert join("<i>", inner) == f"&lt;i&gt;{inner}"


def test_a_string_that_only_looks_like_markup_is_text():
    assert element("p", str(element("b", "x"))) == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert element("p", element("b", "x") + "<i>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;i&gt;</p>", "a sum is no Markup"


def test_attributes_are_quoted_and_escaped():
    assert element("a", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;"></a>'
    assert element("p", class_="x", aria_label="y", tabindex=0) == '<p class="x" aria-label="y" tabindex="0"></p>'


def test_true_stands_alone_and_none_and_false_are_left_out():
    assert element("details", open=True, id_=None, hidden=False) == "<details open></details>"


def test_void_elements_have_no_end():
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
    with pytest.raises(ValueError, match="has no children; got 1"):
        element("br", "x")


@pytest.mark.parametrize("name", ["", "a b", "a>", "Script", "1a"])
def test_names_that_are_not_plain_are_refused(name):
    with pytest.raises(ValueError, match="names of tags and attributes"):
        element(name)
    with pytest.raises(ValueError, match="names of tags and attributes"):
        element("p", **{name or " ": "x"})


def test_names_of_attributes_may_have_capitals_inside_as_those_of_svg_do():
    assert element("svg", viewBox="0 0 1 1") == '<svg viewBox="0 0 1 1"></svg>'


def test_control_characters_show_as_pictures_but_for_line_ends_and_tabs():
    assert escape("a\x00b\x1bc\x7f\r\n\t") == "a␀b␛c␡␍\n\t"


def test_lone_surrogates_do_not_reach_the_file():
    assert escape("a\ud800b") == "a\ufffdb"


def test_escaped_text_is_markup():
    assert isinstance(escape("x"), Markup) and isinstance(join(), Markup)
