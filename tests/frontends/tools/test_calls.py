"""How calls and their results are written."""

from deepen_llm.frontends.tools import Call, explain_cut, write_call, write_head, write_result


def test_a_call_is_one_line_of_json():
    assert write_call("add", {"a": 1, "b": "ü\n"}) == r'{"name": "add", "arguments": {"a": 1, "b": "ü\n"}}'
    assert write_call("add", '{"a": 1}') == '{"name": "add", "arguments": {"a": 1}}'
    assert write_call('say "ü"', {}) == write_head('say "ü"') + "{}}" == r'{"name": "say \"ü\"", "arguments": {}}'


def test_a_result_names_its_tool_and_says_whether_it_is_an_error():
    assert write_result("add", "3") == "Result of add: 3"
    assert write_result(None, "3") == "Result of the tool: 3"
    assert write_result("add", "no", is_error=True) == "Error of add: no"


def test_each_call_has_an_id_of_its_own_and_its_arguments_by_name():
    assert Call(0).id != Call(0).id
    assert Call(0, arguments='{"a": [1]}').values == {"a": [1]}


def test_a_cut_call_is_explained_by_its_limit():
    assert explain_cut("the call", 9).startswith("the answer was cut at max_tokens=9 or ")
    assert explain_cut("the call", 9).endswith(" before the call was whole: raise max_tokens, or shorten the prompt")


def test_a_cut_answer_whose_limit_is_not_known_is_explained_by_its_length():
    assert explain_cut("its JSON", num_tokens=9).startswith("the answer was cut after 9 tokens, at max_tokens or a ")
    assert explain_cut("its JSON").startswith("the answer was cut at max_tokens or a member's context (")
