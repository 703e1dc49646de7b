"""For those who write members or test what stands on an ensemble: members without a model, and tests of any member."""

from deepen_llm.testing.conformance import MemberConformance
from deepen_llm.testing.faulty import FaultyMember
from deepen_llm.testing.scripted import ScriptedMember

__all__ = ["FaultyMember", "MemberConformance", "ScriptedMember"]
