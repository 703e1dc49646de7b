from __future__ import annotations

from dataclasses import replace

import pytest

from deepen_llm.explain.deciding import Decision, decide, read_token
from deepen_llm.results import Candidate, MemberTrace, StepTrace

NAMES = ("bpe", "sentencepiece", "unigram")


@pytest.fixture
def step_of(vocabularies):
    """A step at which the main model, `bpe`, takes `chosen` and each member's best token is the one given."""

    def make(chosen, best, changed_by=()):
        views = [
            MemberTrace(name, (Candidate(id_of(vocabularies[name], text), text or "", 0.5),))
            for name, text in zip(NAMES, best, strict=True)
        ]
        token_id = id_of(vocabularies["bpe"], chosen)
        return StepTrace(0, token_id, chosen or "", tuple(views), (Candidate(token_id, chosen or "", 0.4),), changed_by)

    return make


def id_of(vocabulary, text):
    """The token of a text; of None, end-of-sequence."""
    return vocabulary.eos_ids[0] if text is None else vocabulary.ids_by_token[text.encode()]


@pytest.mark.parametrize(
    ("best", "kind", "members"),
    [
        ((" the", " a", " a"), "main", ("bpe",)),
        ((" a", " the", " a"), "other", ("sentencepiece",)),
        ((" the", " a", " the"), "agreed", ("bpe", "unigram")),
        ((" a", " the", " the"), "overruled", ("sentencepiece", "unigram")),
        ((" a", "e", "i"), "fusion", ()),
    ],
)
def test_those_whose_best_token_is_the_chosen_one_decide(step_of, vocabularies, best, kind, members):
    assert decide(step_of(" the", best), vocabularies, "bpe") == Decision(kind, members)


def test_a_longer_token_speaks_for_the_one_that_it_begins_with_and_a_shorter_one_does_not(step_of, vocabularies):
    assert decide(step_of(" ", (" the", "e", "i")), vocabularies, "bpe").members == ("bpe",)
    assert decide(step_of(" the", (" the", " ", " ")), vocabularies, "bpe").members == ("bpe",)


def test_every_end_of_sequence_reads_alike_and_nothing_else_speaks_for_it(step_of, vocabularies):
    assert decide(step_of(None, (" a", None, " a")), vocabularies, "bpe") == Decision("other", ("sentencepiece",))
    assert decide(step_of(" a", (None, None, " a")), vocabularies, "bpe").members == ("unigram",)
    assert read_token(vocabularies["unigram"], vocabularies["unigram"].eos_ids[0]) == b""


def test_those_whom_the_trace_names_are_the_ones_who_decided(step_of, vocabularies):
    step = step_of(" ", (" a", " ", " the"), changed_by=("sentencepiece",))
    assert decide(step, vocabularies, "bpe") == Decision("other", ("sentencepiece",))


def test_a_special_token_speaks_for_nothing(step_of, vocabularies):
    special = next(iter(vocabularies["unigram"].special_ids - set(vocabularies["unigram"].eos_ids)))
    assert read_token(vocabularies["unigram"], special) is None
    step = step_of(" a", (" a", "e", "i"))
    step = StepTrace(0, step.token_id, " a", (MemberTrace("unigram", (Candidate(special, "<s>", 1.0),)),), step.fused)
    assert decide(step, vocabularies, "bpe") == Decision("fusion", ())


def test_members_that_were_not_asked_decide_nothing(step_of, vocabularies):
    step = step_of(" the", (" the", " the", " the"))
    alone = StepTrace(0, step.token_id, " the", (step.members[0], MemberTrace("unigram", ())), step.fused)
    assert decide(alone, vocabularies, "bpe") == Decision("main", ("bpe",))


def test_where_no_member_was_asked_the_structure_decided(step_of, vocabularies):
    step = replace(step_of(" the", (" the", " a", " a")), members=(), is_fused=False)
    assert decide(step, vocabularies, "bpe") == Decision("forced", ())
