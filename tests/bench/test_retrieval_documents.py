from __future__ import annotations

import re

import pytest

from deepen_llm.bench.retrieval_documents import FACTS_EACH, MAX_DOCUMENTS, RetrievalQuestion, make_documents
from deepen_llm.errors import ConfigError
from deepen_llm.starter.names import HELD_OUT_PEOPLE, HELD_OUT_PLACES
from deepen_llm.starter.relations import RELATIONS


def test_the_same_seed_makes_the_same_documents_and_another_seed_others():
    assert make_documents(60, 90) == make_documents(60, 90)
    assert make_documents(60, 90) != make_documents(60, 90, seed=8)


def test_each_question_is_answered_by_its_own_document_alone():
    documents, questions = make_documents(MAX_DOCUMENTS, FACTS_EACH * MAX_DOCUMENTS)
    texts = {document.name: document.text for document in documents}
    assert len(texts) == MAX_DOCUMENTS > 50
    assert len({question.text for question in questions}) == len(questions)
    for question in questions:
        subject = question.source.split("-")[0]
        assert subject in question.text
        assert any(subject in s and question.answer in s for s in texts[question.source].split(". "))
        assert question.answer not in question.text


def test_questions_are_worded_as_none_in_training_and_about_names_that_never_occur_there():
    trained = [form for relation in RELATIONS for form in relation.questions]
    documents, questions = make_documents()
    names = {document.name.split("-")[0] for document in documents}
    assert names <= {*HELD_OUT_PEOPLE, *HELD_OUT_PLACES}
    for question in questions:
        name = question.source.split("-")[0]
        assert not any(fits(form, question.text, name) for form in trained), question.text


def test_questions_go_round_the_documents():
    documents, questions = make_documents(20, 45)
    assert [question.source for question in questions[:20]] == [document.name for document in documents]
    assert {question.source for question in questions[40:]} == {document.name for document in documents[:5]}


def test_two_documents_about_one_person_never_state_the_same_kind_of_fact():
    _, questions = make_documents(MAX_DOCUMENTS, FACTS_EACH * MAX_DOCUMENTS)
    held_out = {form: number for number, relation in enumerate(RELATIONS) for form in relation.held_out}
    asked = {}
    for question in questions:
        name = question.source.split("-")[0]
        relation = next(n for form, n in held_out.items() if fits(form, question.text, name))
        asked.setdefault(name, []).append(relation)
    assert all(len(set(relations)) == len(relations) for relations in asked.values())
    assert max(map(len, asked.values())) == 2 * FACTS_EACH


def fits(form, text, name):
    """Whether a question has this form, about a name or about a thing of that name."""
    before, after = map(re.escape, form.split("{n}"))
    return re.fullmatch(rf"{before}(\w+ of )?{name}{after}", text) is not None


@pytest.mark.parametrize(
    ("said", "is_right"),
    [
        (" piano", True),
        ("\n\nThe Piano.", True),
        ("Orin plays the piano", True),
        ("the harp", False),
        ("the piano or the harp", False),
        ("pianoforte", False),
        ("I do not know.\npiano", False),
        ("", False),
        (" \n ", False),
    ],
)
def test_an_answer_names_the_value_on_its_first_line_and_no_rival(said, is_right):
    question = RetrievalQuestion("What does Orin play?", "piano", "Orin-1", ("harp", "organ"))
    assert question.is_answered_by(said) is is_right


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 1), "documents can be made; got 0"),
        ((MAX_DOCUMENTS + 1, 1), f"1 to {MAX_DOCUMENTS} documents can be made; got {MAX_DOCUMENTS + 1}"),
        ((2, 7), "2 documents answer 1 to 6 questions; got 7: ask fewer"),
        ((2, 0), "2 documents answer 1 to 6 questions; got 0"),
    ],
)
def test_what_cannot_be_made_is_refused(numbers, message):
    with pytest.raises(ConfigError, match=message):
        make_documents(*numbers)
