"""A task of the protocol is one answer of the mesh, streamed into one artifact."""

from __future__ import annotations

import logging
import time
from contextlib import aclosing

import msgspec
from a2a.helpers import new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.utils.errors import InvalidParamsError
from google.protobuf.json_format import MessageToDict

from agents.faces.a2a.keeping import Conversations
from agents.faces.http.convert import DEFAULT_TOKENS, MESH, Job
from agents.faces.http.errors import HttpError
from agents.faces.http.live import CORRECTED
from agents.faces.http.schema import Model, Tokens, Wishes
from agents.faces.http.turn import End, Piece, answer
from agents.library import Agent
from capabilities.messages import Generate, Message
from mesh.core.errors import GossamerError

FLUSH_S = 0.1  # between two pieces of an artifact: each is stored and sent on its own
ARTIFACT = "answer"
STREAMED = "gossamer_streamed"  # whether the client reads as it comes, in the call's state

log = logging.getLogger("gossamer.a2a")


class Asked(Wishes, kw_only=True):
    """What a message may carry as metadata under ``gossamer``: HTTP's wishes, and who should
    answer (a name, ``name@node``, a model, or ``mesh``)."""

    model: Model = MESH
    max_tokens: Tokens = DEFAULT_TOKENS


class MeshExecutor(AgentExecutor):
    """Runs tasks on one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._said = Conversations()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer one message; the SDK cancels this when the task is cancelled."""
        message = context.message
        question = context.get_user_input().strip()
        if message is None or not question:
            raise InvalidParamsError(message="the message has no text")
        asked = _asked(context)
        if context.current_task is None:
            await event_queue.enqueue_event(new_task_from_user_message(message))
        updater = _updater(context, event_queue)
        await updater.start_work()
        client = context.call_context.user.user_name
        before = self._said.before(client, updater.context_id)
        try:
            artifact = _Artifact(updater, live=bool(context.call_context.state.get(STREAMED)))
            end = await self._answer(asked, [*before, Message("user", question)], artifact)
        except (GossamerError, HttpError) as error:
            text = error.sentence() if isinstance(error, GossamerError) else str(error)
            said = updater.new_agent_message([new_text_part(text)])
            await (updater.reject if _refused(error) else updater.failed)(said)
            return
        except Exception:
            log.exception("a task failed")
            said = updater.new_agent_message([new_text_part("internal error; the log has it")])
            await updater.failed(said)
            return
        self._said.said(client, updater.context_id, question, end.text)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Say that it is cancelled; the answer on its way has been."""
        await _updater(context, event_queue).cancel()

    async def _answer(self, asked: Asked, turns: list[Message], artifact: _Artifact) -> End:
        job = Job(
            target=asked.model,
            request=Generate(messages=turns, max_tokens=asked.max_tokens),
            wishes=asked,
            whole=asked.model == MESH,
        )
        async with aclosing(answer(self._agent, job)) as items:  # type: ignore[type-var]
            async for item in items:
                if isinstance(item, Piece) and not item.thinking:
                    await artifact.add(item.text)
                elif isinstance(item, End):
                    await artifact.close(item)
                    return item
        raise GossamerError("the answer ended before it was whole")


class _Artifact:
    """Sends text in pieces, and in its place the whole where the pieces did not hold.

    A piece stays a part of its own in the task; who waits for the whole gets it as one.
    """

    def __init__(self, updater: TaskUpdater, *, live: bool) -> None:
        self._updater = updater
        self._live = live
        self._held = ""
        self._began = False
        self._sent_at = 0.0

    async def add(self, text: str) -> None:
        """Send what came before, if it is time; something is always left to be the last."""
        if self._live and self._held and time.monotonic() - self._sent_at >= FLUSH_S:
            self._sent_at = time.monotonic()
            await self._send(self._held)
            self._held = ""
        self._held += text

    async def close(self, end: End) -> None:
        """The rest, with where the answer is from."""
        source = {"gossamer": msgspec.to_builtins(end.provenance)}
        if not self._began or end.rest.startswith(CORRECTED):
            self._began, self._held = False, end.text  # an artifact can be replaced
        else:
            self._held += end.rest
        await self._send(self._held, last=True, metadata=source)

    async def _send(
        self, text: str, *, last: bool = False, metadata: dict[str, object] | None = None
    ) -> None:
        await self._updater.add_artifact(
            [new_text_part(text)],
            artifact_id=ARTIFACT,
            name=ARTIFACT,
            metadata=metadata,
            append=self._began,
            last_chunk=last,
        )
        self._began = True


def _updater(context: RequestContext, queue: EventQueue) -> TaskUpdater:
    # A message to a task that is known may leave out the context; the task has it.
    task = context.current_task
    found = task.context_id if task is not None else context.context_id
    assert context.task_id is not None
    assert found is not None
    return TaskUpdater(queue, context.task_id, found)


def _asked(context: RequestContext) -> Asked:
    found = MessageToDict(context.message.metadata) if context.message is not None else {}
    try:
        # Numbers of a protobuf struct are floats, also whole ones.
        return msgspec.convert(found.get("gossamer", {}), Asked, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidParamsError(message=f"metadata.gossamer: {error}") from None


def _refused(error: Exception) -> bool:
    code = error.code if isinstance(error, GossamerError) else ""
    return code in {"denied", "rejected"}
