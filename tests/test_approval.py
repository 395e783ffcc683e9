"""Who may say yes to a plan, and until when."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.language.runbook import ApprovalRule
from bot.runs.approval import Answer, Approval, ApprovalState, Decision, Person
from bot.runs.run import Requester
from tests.parts.books import START

ALICE = Person("alice", roles=("oncall", "admins"))
BOB = Person("bob", roles=("oncall",))
EVE = Person("eve", roles=("sales",))
PEOPLE = [ALICE, BOB, EVE, Person("carol", roles=("admins",)), Person("dave")]
QUESTION = Approval(
    1, "d" * 64, ApprovalRule(), Requester("alice", "alice"), START + timedelta(minutes=15), "pending"
)


def test_one_of_the_roles_is_enough_and_none_is_not() -> None:
    rule = ApprovalRule.model_validate({"from": ["oncall", "admins"]})
    question = replace(QUESTION, rule=rule)
    assert question.refusal(BOB, "approve", START) is None
    assert question.refusal(Person("carol", roles=("admins",)), "approve", START) is None
    assert "oncall, admins" in (question.refusal(EVE, "approve", START) or "")
    assert question.refusal(Person("dave"), "deny", START) is not None


def test_who_asked_may_deny_but_not_approve_unless_the_rule_lets_them() -> None:
    assert "somebody else" in (QUESTION.refusal(ALICE, "approve", START) or "")
    assert QUESTION.refusal(ALICE, "deny", START) is None
    lenient = replace(QUESTION, rule=ApprovalRule(allow_requester=True))
    assert lenient.refusal(ALICE, "approve", START) is None
    by_alert = replace(QUESTION, requester=Requester("alert X", via="alert"))
    assert by_alert.refusal(ALICE, "approve", START) is None


def test_an_answer_at_the_deadline_is_too_late_even_if_nobody_noticed_the_deadline() -> None:
    just_before = QUESTION.expires_at - timedelta(microseconds=1)
    assert QUESTION.refusal(BOB, "approve", just_before) is None
    assert QUESTION.state_at(just_before) == "pending"
    assert QUESTION.state_at(QUESTION.expires_at) == "expired"
    assert "03:15:00" in (QUESTION.refusal(BOB, "approve", QUESTION.expires_at) or "")
    assert "closed" in (QUESTION.refusal(BOB, "deny", QUESTION.expires_at) or "")


@pytest.mark.parametrize(("answer", "word"), [("approve", "approved"), ("deny", "denied")])
def test_who_comes_after_the_decision_is_told_who_made_it(answer: Answer, word: str) -> None:
    state: ApprovalState = "approved" if answer == "approve" else "denied"
    over = replace(QUESTION, state=state, decisions=(Decision("bob", answer, START),))
    assert f"bob has already {word}" in (over.refusal(ALICE, "deny", START) or "")


def test_a_void_question_says_why() -> None:
    void = replace(QUESTION, state="void", note="the alert has cleared")
    assert "the alert has cleared" in (void.refusal(BOB, "approve", START) or "")
    assert void.state_at(QUESTION.expires_at) == "void"


def test_one_deny_ends_it_whatever_was_said_before() -> None:
    rule = ApprovalRule(required=3)
    question = replace(QUESTION, rule=rule, decisions=(Decision("bob", "approve", START),))
    assert question.state_after("deny") == "denied"
    assert question.state_after("approve") == "pending"


@given(
    required=st.integers(1, 4),
    lenient=st.booleans(),
    clicks=st.lists(
        st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["approve", "deny"]), st.integers(0, 20)),
        max_size=30,
    ),
    leaving=st.sets(st.sampled_from(["alice", "bob", "carol"])),
)
def test_whoever_leaves_takes_their_approval_along_and_nobody_elses(
    required: int, lenient: bool, clicks: list[tuple[Person, Answer, int]], leaving: set[str]
) -> None:
    rule = ApprovalRule.model_validate(
        {"required": required, "allow_requester": lenient, "from": ["oncall", "admins"]}
    )
    question = replace(QUESTION, rule=rule)
    for person, answer, minute in sorted(clicks, key=lambda click: click[2]):
        question = _answered(question, person, answer, START + timedelta(minutes=minute))
    looked_at = {one.name: None if one.name in leaving else one for one in PEOPLE}
    lapsed = question.lapsed(looked_at)
    gone = {one.person for one in question.decisions} & leaving
    assert set(lapsed) == (gone if question.state == "pending" else set())
    left = question.without(lapsed)
    assert {one.person for one in left.decisions} == {one.person for one in question.decisions} - set(lapsed)
    if left.state == "pending":
        assert left.needed >= question.needed
        assert question.lapsed({}) == (), "who was not looked at stays"


@given(
    required=st.integers(1, 4),
    clicks=st.lists(st.tuples(st.sampled_from(PEOPLE), st.booleans(), st.integers(0, 20)), max_size=20),
)
def test_whoever_decides_alone_decides_once_and_only_while_it_is_asked(
    required: int, clicks: list[tuple[Person, bool, int]]
) -> None:
    question = replace(QUESTION, rule=ApprovalRule(required=required))
    for person, alone, minute in sorted(clicks, key=lambda click: click[2]):
        now = START + timedelta(minutes=minute)
        before = question
        if question.refusal(person, "approve", now, alone=alone) is None:
            assert before.state == "pending"
            assert minute < 15
            glass = "why" if alone else ""
            others = tuple(one for one in before.decisions if one.person != person.name)
            state = before.state_after("approve", alone=alone)
            question = replace(
                before, state=state, decisions=(*others, Decision(person.name, "approve", now, glass))
            )
            assert not alone or question.state == "approved"
    assert len([one for one in question.decisions if one.glass]) <= 1
    assert len(question.decisions) == len({one.person for one in question.decisions})


def _answered(question: Approval, person: Person, answer: Answer, now: datetime) -> Approval:
    if question.refusal(person, answer, now) is not None:
        return question
    decision = Decision(person.name, answer, now)
    return replace(question, state=question.state_after(answer), decisions=(*question.decisions, decision))


@given(
    required=st.integers(1, 4),
    lenient=st.booleans(),
    clicks=st.lists(
        st.tuples(st.sampled_from(PEOPLE), st.sampled_from(["approve", "deny"]), st.integers(0, 20)),
        max_size=30,
    ),
)
def test_nobody_counts_twice_and_nobody_without_the_right_counts_at_all(
    required: int, lenient: bool, clicks: list[tuple[Person, Answer, int]]
) -> None:
    rule = ApprovalRule.model_validate(
        {"required": required, "allow_requester": lenient, "from": ["oncall", "admins"]}
    )
    question = replace(QUESTION, rule=rule)
    for person, answer, minute in sorted(clicks, key=lambda click: click[2]):
        now = START + timedelta(minutes=minute)
        if question.refusal(person, answer, now) is None:
            assert minute < 15
            decision = Decision(person.name, answer, now)
            question = replace(
                question, state=question.state_after(answer), decisions=(*question.decisions, decision)
            )
    said_yes = {one.person for one in question.decisions if one.answer == "approve"}
    assert len(question.decisions) == len({one.person for one in question.decisions})
    assert not said_yes & {"eve", "dave"}
    assert lenient or "alice" not in said_yes
    denied = any(one.answer == "deny" for one in question.decisions)
    assert question.state == ("denied" if denied else "approved" if len(said_yes) >= required else "pending")
