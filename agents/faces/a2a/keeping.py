"""What the endpoint remembers, bounded: tasks, and the turns of conversations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import ListTasksRequest, ListTasksResponse, Task, TaskState

from capabilities.messages import Message

MAX_TASKS = 256  # of all clients; the oldest that is over is forgotten
MAX_CONTEXTS = 256
MAX_TURNS = 16  # messages of one conversation that are told again

OVER = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_REJECTED,
    }
)


class Client(User):
    """Who asks: everybody who has the same key, or anybody where no key is needed."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        """Whether a key was sent; the guard has checked it."""
        return bool(self._name)

    @property
    def user_name(self) -> str:
        """A hash of the key; tasks of another key are not there for this one."""
        return self._name


class BoundedTasks(InMemoryTaskStore):
    """The SDK's store, which forgets."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: OrderedDict[tuple[str, str], tuple[ServerCallContext, bool]] = OrderedDict()

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """See the base; the oldest task that is over makes room for a new one."""
        key = (context.user.user_name, task.id)
        self._kept.pop(key, None)
        self._kept[key] = (context, task.status.state in OVER)
        await super().save(task, context)
        while len(self._kept) > MAX_TASKS:
            old = next((k for k, (_, over) in self._kept.items() if over), None)
            if old is None:
                return  # all are under way: the guard bounds those
            whose, _ = self._kept.pop(old)
            await super().delete(old[1], whose)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """See the base."""
        self._kept.pop((context.user.user_name, task_id), None)
        await super().delete(task_id, context)

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """See the base."""
        return await super().list(params, context)


class Conversations:
    """Earlier turns by client and context."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, str], list[Message]] = OrderedDict()

    def before(self, client: str, context: str) -> Sequence[Message]:
        """What was said so far, the oldest first."""
        return tuple(self._turns.get((client, context), ()))

    def said(self, client: str, context: str, question: str, answer: str) -> None:
        """Remember one turn of each."""
        turns = self._turns.setdefault((client, context), [])
        turns += [Message("user", question), Message("assistant", answer)]
        del turns[:-MAX_TURNS]
        self._turns.move_to_end((client, context))
        while len(self._turns) > MAX_CONTEXTS:
            self._turns.popitem(last=False)
