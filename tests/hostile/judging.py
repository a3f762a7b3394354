"""Holds what became of a trial against what its row says."""

from __future__ import annotations

from tests.hostile.running import ReplyTrial, Trial

#: Beyond this a size limit may be met before the rule that the member breaks.
LARGE = 4096


def faults_of(trial: Trial, logged: list[tuple[int, str]], fold: bool = False) -> list[str]:
    """Everything that is not as the row says; `logged`: the access-log lines of the trial's client.

    `fold`: other proxies may write names in another case.
    """
    case, visit = trial.case, trial.visit
    found: list[str] = []
    statuses = tuple(answer.status for answer in visit.answers)
    refused = case.is_refused
    stopped = case.may_stop and statuses and statuses == trial.expected[: len(statuses)] != trial.expected
    if statuses != trial.expected and not stopped and not (_is_large(trial) and _same_but_limit(statuses, trial.expected)):
        found.append(f"replies {statuses}, not {trial.expected}")
    if visit.end != "eof" or visit.left:
        found.append(f"the connection ends by {visit.end} with {visit.left[:80]!r}")
    for answer in visit.answers:
        if answer.status < 400 and answer.body not in (visit.client, b"", b"direct"):
            found.append(f"a reply of somebody else: {answer.body[:80]!r}")
    if len(trial.requests) != trial.served and not stopped:
        found.append(f"{len(trial.requests)} requests upstream, not {trial.served}: {trial.own_requests[:300]!r}")
    if trial.partial and not case.in_body:
        found.append(f"an incomplete request upstream: {trial.partial[0].tail[:200]!r}")
    if any(not record.ended.is_set() for record in trial.partial):
        found.append("a connection with half a request is still open")
    sent = trial.own_requests
    if not refused and not stopped:
        text = sent + b"".join(request.body for request in trial.requests)
        sees = tuple(map(bytes.lower, case.sees)) if fold else case.sees
        text = text.lower() if fold else text
        found += [f"upstream lacks {part!r}: {sent[:300]!r}" for part in sees if part not in text]
        found += [f"upstream has {part!r}: {sent[:300]!r}" for part in case.lacks if part in sent]
    if tuple(status for status, _ in logged) != statuses:
        found.append(f"logged {logged}")
    elif case.reason and statuses == trial.expected and (refused or trial.hops == 1) and not _is_large(trial):
        # A reply that is no refusal is the first of the member's; the second hop has its own word for it.
        reason = logged[-1 if refused else -len(case.expected)][1]
        if reason != case.reason:
            found.append(f"reason {reason}, not {case.reason}")
    if refused and logged and logged[-1][1] == "-":
        found.append("refused without a reason word")
    return [f"[{trial.label}; {trial.hops} hop] {text}" for text in found]


def _is_large(trial: Trial) -> bool:
    return len(trial.data) > LARGE


def _same_but_limit(statuses: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return len(statuses) == len(expected) and statuses[:-1] == expected[:-1] and statuses[-1] in (400, 414, 431)


def reply_faults_of(trial: ReplyTrial, logged: list[tuple[int, str]]) -> list[str]:
    """The same for a reply case."""
    case, visit = trial.case, trial.visit
    found: list[str] = []
    statuses = [answer.status for answer in visit.answers]
    failed = case.refused or not case.complete
    if failed:
        # 502, or, behind a head that was already sent on, a reply that is visibly not whole.
        if not (statuses == [502] and visit.end == "eof") and not (not statuses and visit.end in ("reset", "eof")):
            found.append(f"replies {statuses}, ends by {visit.end}, left {visit.left[:80]!r}")
        if (
            logged
            and logged[-1][1] not in ("bad_response", "reset_before_response", "reset_after_response")
            and trial.hops == 1
        ):
            found.append(f"logged {logged}")
    else:
        if len(statuses) != 1 or visit.left or visit.end != "eof":
            found.append(f"replies {statuses}, ends by {visit.end}, left {visit.left[:80]!r}")
        elif visit.answers[0].body != case.body:
            found.append(f"body {visit.answers[0].body[:80]!r}, not {case.body[:80]!r}")
    whole = b"".join(answer.head + answer.body for answer in visit.answers) + visit.left
    found += [f"the client got {part!r}" for part in case.lacks if part in whole]
    if len(logged) != 1:
        found.append(f"logged {logged}")
    following = trial.next_visit
    if [answer.body for answer in following.answers] != [following.client]:
        found.append(f"the next client got {[answer.body[:80] for answer in following.answers]}")
    if not trial.records:
        found.append("no request came upstream")
    if not case.reusable and any(not record.ended.is_set() for record in trial.records):
        found.append("the upstream connection is still open")
    return [f"[{trial.hops} hop] {text}" for text in found]
