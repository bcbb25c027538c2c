"""The same 1,000 questions to unbound's dns64, BIND's dns64 and Causeway: every difference has an explanation, which is
written down."""

import dnscompare
import network as n
import pytest

DOCUMENT = n.ROOT / "appliance/docs/dns64-comparison.md"


@pytest.fixture(scope="module")
def found(lab):
    with dnscompare.peers() as askers:
        return dnscompare.compare(askers)


def test_there_are_a_thousand_different_questions():
    asked = dnscompare.questions()
    assert len(asked) == len(set(asked)) == 1000


def test_every_question_is_answered_by_all(found):
    silent = [(q, name) for q, got in found.answers.items() for name, a in got.items() if a is None]
    assert silent == []


def test_every_difference_is_explained(found):
    assert not found.unexplained, "\n".join(str(c) for c in found.unexplained[:20])


def test_every_reason_is_needed_and_written_down(found):
    """A reason that explains nothing any more would hide what changes."""
    used = {c.reason for c in found.cases}
    assert used == set(dnscompare.REASONS)
    text = DOCUMENT.read_text()
    missing = [key for key in dnscompare.REASONS if f"## {key}" not in text]
    assert missing == []


def test_none_of_the_three_synthesises_what_is_bogus_or_does_not_exist(found):
    for q, got in found.answers.items():
        if q.cd or q.qtype != "AAAA":
            continue
        for name, answer in got.items():
            if q.name.startswith(("v4only.bogus", "nx.", "a.b.nx.")):
                assert not any(dnscompare.PREFIX_TEXT in r for r in answer["answer"]), (q, name)
