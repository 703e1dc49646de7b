from __future__ import annotations

from deepen_llm import SamplingParams
from deepen_llm.bench.forgetful import make_forgetful

STORY = "The quick brown fox jumps over the lazy dog, and nobody has seen it since."


def test_nothing_of_an_answer_is_looked_up_or_begun_with_in_the_next(make_ensemble):
    ensemble = make_ensemble([STORY], kinds=("bpe",))
    for member in ensemble.members:
        member._tells_each = True

    def ask(one):
        answer = one.generate(STORY[:9], SamplingParams(max_new_tokens=60))
        assert answer.text == STORY[9:] and answer.usage.cached_tokens == 0
        return answer.fusion.num_accepted

    with make_forgetful(ensemble, num_speculative_tokens=4) as forgetful:
        assert forgetful.config.num_speculative_tokens == 4 and forgetful.turns is ensemble.turns
        assert max(ask(forgetful), ask(forgetful)) <= 2  # as often as two tokens come again by chance
    with make_forgetful(ensemble, num_speculative_tokens=4, drafts_from_answers=True) as other:
        assert ask(other) <= 2
        assert ask(other) > 5
