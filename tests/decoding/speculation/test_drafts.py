"""The drafts of one sequence, and what is learnt from them."""

from __future__ import annotations

from deepen_llm.decoding.speculation.drafts import GIVEN, WRITTEN, Drafted, Drafts, Sources
from deepen_llm.decoding.speculation.length import Cost

CHEAP = Cost(write=0.0, check=0.01)
DEAR = Cost(write=0.0, check=0.25)


def ids_of(draft):
    return [drafted.token_id for drafted in draft]


def begin(prompt, chosen=()):
    drafts, sources = Drafts(prompt), Sources()
    drafts.settle(sources, chosen)
    return drafts, sources


def test_what_stood_in_the_prompt_is_suggested_after_the_same_tokens():
    drafts, sources = begin([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3])
    assert ids_of(drafts.look_up(sources, CHEAP, 4)) == [4, 5, 6, 7]


def test_a_text_that_repeats_itself_is_followed_beyond_its_end():
    drafts, sources = begin([7], [1, 2, 3, 1, 2, 3, 1])
    assert ids_of(drafts.look_up(sources, CHEAP, 8)) == [2, 3, 1, 2, 3, 1, 2, 3]


def test_a_draft_ends_where_checking_it_does_not_pay():
    drafts, sources = begin([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3])
    assert 0 < len(drafts.look_up(sources, DEAR, 8)) < 4


def test_what_another_answer_said_is_suggested_and_its_prompt_is_not():
    sources = Sources()
    Drafts([30, 31, 32]).settle(sources, [10, 11, 12, 13])
    other = Drafts([50])
    other.settle(sources, [10, 11])
    assert ids_of(other.look_up(sources, CHEAP, 2)) == [12, 13]
    third = Drafts([60])
    third.settle(sources, [30, 31])
    assert not other._find(sources, [30, 31]) and not third.look_up(sources, CHEAP, 2)


def test_a_rate_learns_from_the_tokens_up_to_the_first_that_did_not_come_true():
    drafts, sources = begin([1], [2])
    before = {source: (rate.num_true, rate.num_claimed) for source, rate in sources.rates.items()}
    drafts.begin([Drafted(5, WRITTEN, 0.9), Drafted(6, 3), Drafted(7, 2)])
    drafts.settle(sources, [2, 5, 8, 7])
    assert sources.rates[WRITTEN].num_true > before[WRITTEN][0] * 0.98
    assert sources.rates[3].num_claimed == before[3][1] * 0.98 + 1 and sources.rates[3].num_true < before[3][0]
    assert (sources.rates[2].num_true, sources.rates[2].num_claimed) == before[2]
    assert (drafts.num_drafted, drafts.count_accepted([2, 5, 8, 7])) == (3, 1)


def test_of_a_draft_that_was_not_followed_to_its_end_only_what_was_chosen_counts():
    drafts, sources = begin([1], [2])
    drafts.begin([Drafted(5, 3), Drafted(6, 2)])
    assert drafts.count_accepted([2, 5]) == 1
    drafts.settle(sources, [2, 5])
    assert drafts.count_accepted([2, 5, 6]) == 1
    assert sources.rates[2].num_claimed == 4.0


def test_nothing_is_learnt_from_a_text_that_is_given():
    drafts, sources = begin([1], [2])
    drafts.begin([Drafted(5, GIVEN)])
    before = [(rate.num_true, rate.num_claimed) for rate in sources.rates.values()]
    drafts.settle(sources, [2, 5])
    assert drafts.count_accepted([2, 5]) == 1
    assert [(rate.num_true, rate.num_claimed) for rate in sources.rates.values()] == before


def test_answers_are_not_remembered_where_that_is_not_wanted():
    sources = Sources(remembers_answers=False)
    Drafts([30]).settle(sources, [10, 11, 12, 13])
    other = Drafts([50])
    other.settle(sources, [10, 11])
    assert other.look_up(sources, CHEAP, 2) == []
