"""The OpenAI-compatible API: what a server is asked before it counts as ready, and what its answers mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import PurePosixPath

from pytest_vastgpu.diagnosis.evidence import shown
from pytest_vastgpu.model import FailureClass
from pytest_vastgpu.model import Progress
from pytest_vastgpu.model import Verdict
from pytest_vastgpu.servers import http_probe
from pytest_vastgpu.servers import tasks
from pytest_vastgpu.servers.base import Failed
from pytest_vastgpu.servers.base import Readiness
from pytest_vastgpu.servers.base import Ready
from pytest_vastgpu.servers.base import Warming
from pytest_vastgpu.servers.http_server import wrong
from pytest_vastgpu.servers.questions import Question
from pytest_vastgpu.servers.tasks import Task

FIRST_TOKEN_S = tasks.FIRST_ANSWER_S


def questions(model: str, task: Task = tasks.DEFAULT, *, must_list: bool = True) -> tuple[Question, ...]:
    """Whether the server lists the model, and does its task; generates text in a chat where it takes only chats.

    :param must_list: False: it is asked for the task also where it lists no models.
    """
    named = json.dumps(model, ensure_ascii=False)
    if must_list:
        listing = Question("models", "/v1/models", holds=named)
    else:
        # Under another name: to those who see that a server has settled, the absence from a list means a wrong model
        listing = Question("listing", "/v1/models", holds=named, holds_where='"id"')
    return (listing, tasks.question(model, task))


def served(
    model: str,
    answers: Mapping[str, http_probe.Answer],
    task: Task = tasks.DEFAULT,
    *,
    rename: str = "",
    tells_tasks: bool = False,
) -> Readiness | None:
    """The result that the answers to :func:`questions` give; None if they give none.

    :param rename: How this server is made to serve a model under another name, for the remedy.
    :param tells_tasks: Whether the workload's builder takes ``task``, for the remedy.
    """
    listing = answers.get("models") or answers.get("listing")
    if listing is None:
        return None
    listed = http_probe.listed_models(listing)
    if listed is not None and model not in listed and (listed or "models" in answers):
        evidence = f"/v1/models lists {', '.join(listed) or 'nothing'}, not {model}"
        return wrong("model_not_listed", shown(evidence), _call_it(model, listed, rename))
    if listed is None and "models" in answers:
        return None
    own = tasks.ways(task)
    asked = [(way, answers[way.name]) for way in own if way.name in answers]
    for way, answer in asked:
        done = way.done(answer)
        if done:
            return Ready()
        if done is None:
            evidence = shown(f"{way.path} answered numbers that are not finite: {answer.body}")
            remedy = "see whether the model needs another precision (--dtype), or this GPU computes wrongly"
            return Failed(Verdict(FailureClass.UNKNOWN, "answer_not_finite", evidence, remedy))
    refused = len(asked) == len(own) and all(answer.status in tasks.REFUSALS for _, answer in asked)
    # Without a list that has the model, nothing but 404 may mean that its routes, or the model, are yet to come
    if refused and (listed or any(answer.status != 404 for _, answer in asked)):
        evidence = "; ".join(f"{way.path} answered {answer.status}: {answer.body}" for way, answer in asked)
        reason = "model_completes_no_text" if task == tasks.DEFAULT else "model_not_for_task"
        return wrong(reason, shown(evidence), _fitting(answers, task, tells_tasks=tells_tasks))
    return Warming(Progress("serving")) if asked and not refused else None  # else the log tells how far it is


def _call_it(model: str, listed: Sequence[str], rename: str) -> str:
    have_it = f"have the server serve {model!r}" + (f" ({rename})" if rename else "")
    if not listed:
        return f"the server has no model: {have_it}"
    near = [name for name in listed if _last(name) == _last(model)]
    return f"give model={(near or listed)[0]!r}, as the server calls it, or {have_it}"


def _last(name: str) -> str:
    """A model's name without the path to it and the case of its letters, which servers change."""
    return PurePosixPath(name).name.casefold()


def _fitting(answers: Mapping[str, http_probe.Answer], task: Task, *, tells_tasks: bool) -> str:
    for other in tasks.TASKS:
        if other != task and any(way.name in answers and way.done(answers[way.name]) for way in tasks.ways(other)):
            give = f"give task={other!r}" if tells_tasks else f"use openai_server(…, task={other!r})"
            return f"the model does not {task}, but it does {other}: {give}"
    others = ", ".join(other for other in tasks.TASKS if other != task)
    return (
        f"the server does not {task} with this model, nor {others}: give another model, or command(…) with ready_path"
    )
