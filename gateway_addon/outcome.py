"""Which outcome a call has, and which error goes with it: decided here, from what its answer says and how it ended.

How the transport ended (`End`) is for whoever carried the bytes to say; of mitmproxy's flows, `proxy.flows.end_of`
does. No I/O.
"""

from dataclasses import dataclass, replace

from gateway_addon.api import errors
from gateway_addon.api.base import Answer, Problem
from gateway_addon.terms import Outcome, Warning


@dataclass(slots=True, frozen=True)
class End:
    """How the transport ended, as far as it can be told without reading the answer.

    `outcome` is the one to record unless the answer itself says better: None after a clean end, else `client_aborted`,
    `upstream_cut`, `interrupted` or `rejected`.
    """

    outcome: Outcome | None = None
    error_type: str | None = None
    error_message: str | None = None


CLEAN = End()


def outcome_of(
    answer: Answer, end: End, *, http_status: int | None, streamed: bool | None, stopped: Warning | None
) -> Outcome:
    """The outcome of a call that has ended: what the answer says beats how the transport ended.

    `answer`: all that was read of it. `http_status`: None if no head has come. `streamed`: whether it was a stream of
    events, None if that is not known. `stopped`: why reading it stopped early, if it did.
    """
    if end.outcome == "rejected":
        return "rejected"
    if http_status is not None and http_status >= 400:
        return "http_error"
    if answer.recognised and answer.error:
        return "stream_error"
    if answer.ended and not answer.recognised:
        return end.outcome or "unreadable"
    if answer.ended:
        # clients hang up as soon as they have read the last event
        return "complete"
    if end.outcome:
        return end.outcome
    if streamed and stopped is None:
        # a close-delimited stream ends like this when the upstream goes away: only the kind's end is missing
        return "upstream_cut"
    return "unreadable"


def outcome_unread(end: End) -> Outcome:
    """The outcome of a call whose answer could not be read because of a bug of ours: how the transport ended."""
    return end.outcome or "unreadable"


def problem_of(answer: Answer, end: End, outcome: Outcome, http_status: int | None) -> Problem | None:
    """The error that the row tells beside its outcome, with the status to tell; None if there was none."""
    problem = answer.error
    if outcome == end.outcome and (problem is None or end.error_message or not answer.recognised):
        # what there is of a broken answer says less of it than how it broke, and may be a model's words
        problem = Problem(message=end.error_message, type=end.error_type)
    return replace(problem, status=_error_status(problem, http_status)) if problem else None


def _error_status(problem: Problem, http_status: int | None) -> int | None:
    """The status an error names. One that only its type stands for gives way to an error status line."""
    if (http_status or 0) >= 400 and problem.status == errors.STATUS_OF_TYPE.get(problem.type or ""):
        return http_status
    return problem.status
