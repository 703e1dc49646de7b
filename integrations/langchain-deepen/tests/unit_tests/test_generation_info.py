"""What goes with an answer's text, as plain JSON values."""

import json
import math

from deepen_llm.results import Candidate, Chunk, FusionReport, Generation, TokenLogprob, Usage
from langchain_deepen.generation_info import finish_info, token_info, token_usage, usage_metadata

USAGE = Usage(prompt_tokens=3, completion_tokens=2)
NAMES = ("one", "two")


def test_an_alternative_that_cannot_come_is_still_json():
    token = TokenLogprob(5, "a", -0.5, (Candidate(5, "a", 0.25), Candidate(6, "b", 0.0)))
    info = token_info(Generation("a", (5,), "stop", USAGE, logprobs=(token,)))
    assert json.loads(json.dumps(info, allow_nan=False)) == info
    (one,) = info["logprobs"]["content"]
    assert [top["logprob"] for top in one["top_logprobs"]] == [math.log(0.25), -9999.0]


def test_only_the_last_piece_says_how_the_answer_ended():
    report = FusionReport(num_steps=2, num_fused=1, num_extra_rows=0, num_extra_passes=0, truncated_mass=0.0)
    assert finish_info(Chunk("a"), NAMES) == {}
    last = Chunk("", finish_reason="stop", usage=USAGE, fusion=report)
    assert finish_info(last, NAMES) == {"finish_reason": "stop", "share_fused": 0.5}
    assert finish_info(last, NAMES, "tool_calls")["finish_reason"] == "tool_calls"


def test_the_last_weights_are_told_by_name_and_are_json():
    report = FusionReport(2, 1, 0, 0, 0.0, weights=(0.25, 0.75))
    info = finish_info(Chunk("", finish_reason="stop", usage=USAGE, fusion=report), NAMES)
    assert json.loads(json.dumps(info))["weights"] == {"one": 0.25, "two": 0.75}


def test_usage_has_langchains_names():
    assert usage_metadata(USAGE) == {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    assert token_usage([USAGE, USAGE]) == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
