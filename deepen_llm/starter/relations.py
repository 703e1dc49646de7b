"""What the passages say about invented people and places, and how it is asked.

Each relation has sentences, the questions used in training, and held-out questions made of the
same words in an order that never occurs in training. `{n}` is the one spoken about, `{v}` the value.
"""

from __future__ import annotations

from typing import NamedTuple

from deepen_llm.starter.names import word_list

JOBS = word_list("""baker farmer teacher doctor painter sailor tailor miller carpenter potter barber weaver
shepherd gardener librarian fisher hunter cook nurse guard clerk driver builder merchant""")
ANIMALS = word_list("""goat dog cat horse cow sheep duck goose rabbit parrot donkey mouse fox owl pony
turtle hen pig""")
FOODS = word_list("""bread cheese soup rice fish cake honey plums apples pears beans onions nuts eggs
cherries pasta carrots mushrooms""")
INSTRUMENTS = word_list("""flute drum violin piano guitar harp trumpet organ horn bell cello lute""")
COLOURS = word_list("""red blue green yellow white black brown grey purple orange pink""")
MONTHS = word_list("""January February March April May June July August September October November
December""")
ROOMS = word_list("""kitchen garden cellar attic hall library stable barn workshop tower""")
THINGS = word_list("""lamp key map book ring hat coat boat cart ladder rope knife chair clock""")
BUILDINGS = word_list("""bridge mill tower harbour church castle school market""")
CRAFTS = word_list("""glass paper wool salt wine silk clay tea iron stone leather""")


class Relation(NamedTuple):
    """One thing a passage can say. `subject` and `value` name the kinds of both ends."""

    subject: str
    value: str
    sentences: tuple[str, ...]
    questions: tuple[str, ...]
    held_out: tuple[str, ...]


VALUES: dict[str, list[str]] = {
    "job": JOBS,
    "animal": ANIMALS,
    "food": FOODS,
    "instrument": INSTRUMENTS,
    "colour": COLOURS,
    "month": MONTHS,
    "room": ROOMS,
    "craft": CRAFTS,
}

RELATIONS = (
    Relation(
        "person",
        "place",
        ("{n} lives in {v}.", "{n} lives in the town of {v}.", "The home of {n} is in {v}."),
        (
            "Where does {n} live?",
            "In which town does {n} live?",
            "Where is the home of {n}?",
            "Which town does {n} live in?",
        ),
        ("In which town is the home of {n}?", "Tell me where {n} lives."),
    ),
    Relation(
        "person",
        "job",
        ("{n} works as a {v}.", "{n} is a {v}.", "The job of {n} is that of a {v}."),
        ("What is the job of {n}?", "What does {n} work as?", "Which job does {n} have?"),
        ("Tell me the job of {n}.", "What job does {n} have?"),
    ),
    Relation(
        "person",
        "animal",
        ("{n} keeps a {v}.", "{n} has a {v}.", "The animal of {n} is a {v}."),
        (
            "Which animal does {n} keep?",
            "What animal does {n} have?",
            "What is the animal of {n}?",
        ),
        ("Which animal does {n} have?", "Tell me the animal of {n}."),
    ),
    Relation(
        "person",
        "food",
        ("{n} likes to eat {v}.", "{n} likes {v}.", "The favourite food of {n} is {v}."),
        (
            "What does {n} like to eat?",
            "Which food does {n} like?",
            "What is the favourite food of {n}?",
        ),
        ("Which food does {n} like to eat?", "Tell me the favourite food of {n}."),
    ),
    Relation(
        "person",
        "instrument",
        ("{n} plays the {v}.", "{n} can play the {v}.", "The instrument of {n} is the {v}."),
        (
            "Which instrument does {n} play?",
            "What does {n} play?",
            "What is the instrument of {n}?",
        ),
        ("What instrument does {n} play?", "Tell me which instrument {n} plays."),
    ),
    Relation(
        "person",
        "person",
        ("The best friend of {n} is {v}.", "{n} is a friend of {v}.", "{n} often meets {v}."),
        (
            "Who is the best friend of {n}?",
            "Who is the friend of {n}?",
            "Whom does {n} often meet?",
        ),
        ("Tell me the friend of {n}.", "Tell me who the best friend of {n} is."),
    ),
    Relation(
        "person",
        "month",
        ("{n} was born in {v}.", "The birthday of {n} is in {v}."),
        (
            "In which month was {n} born?",
            "When was {n} born?",
            "When is the birthday of {n}?",
        ),
        ("In which month is the birthday of {n}?", "Tell me when {n} was born."),
    ),
    Relation(
        "thing",
        "colour",
        ("The {n} is {v}.", "The colour of the {n} is {v}."),
        ("What colour is the {n}?", "Which colour is the {n}?", "What is the colour of the {n}?"),
        ("Which colour does the {n} have?", "Tell me the colour of the {n}."),
    ),
    Relation(
        "thing",
        "room",
        ("The {n} is in the {v}.", "The {n} is kept in the {v}."),
        ("Where is the {n}?", "Where is the {n} kept?", "In which room is the {n}?"),
        ("In which room is the {n} kept?", "Tell me where the {n} is."),
    ),
    Relation(
        "place",
        "person",
        ("The mayor of {n} is {v}.", "{n} has a mayor named {v}.", "{v} is the mayor of {n}."),
        ("Who is the mayor of {n}?", "What is the name of the mayor of {n}?"),
        ("Tell me the name of the mayor of {n}.", "Tell me who the mayor of {n} is."),
    ),
    Relation(
        "building",
        "person",
        ("The {n} was built by {v}.", "{v} built the {n}."),
        ("Who built the {n}?", "By whom was the {n} built?"),
        ("Tell me who built the {n}.", "Tell me by whom the {n} was built."),
    ),
    Relation(
        "place",
        "craft",
        ("{n} is known for its {v}.", "The town of {n} makes {v}.", "People in {n} make {v}."),
        ("What is {n} known for?", "What does the town of {n} make?", "What do people in {n} make?"),
        ("What is the town of {n} known for?", "Tell me what people in {n} make."),
    ),
)
