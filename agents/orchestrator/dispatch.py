"""This node's own calls as its policies see them: what is under way, and how each one went."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import msgspec

from agents.orchestrator.line import Line
from agents.orchestrator.options import AskOptions
from agents.orchestrator.progress import StepState
from agents.orchestrator.tail import Tail
from agents.orchestrator.verify import Assembly
from agents.parts import Parts
from agents.port import Offer, Task
from agents.scheduling.flights import Flight, Flights
from agents.scheduling.policies import Context, Learner, Policy, busy, in_line
from agents.scheduling.prediction import Job, Outcome, Predictor
from capabilities.messages import Generate, Message
from mesh.core.errors import ConfigError, DeadlineExceeded, Rejected

CHARS_PER_TOKEN = 4  # of English, for most vocabularies; it only ranks nodes
BLOCK_CHARS = 256  # a prompt's beginning is compared in blocks of this length
MAX_BLOCKS = 64

Make = Callable[[str], Policy]

# Tokens that every answer may take, whatever it is expected to: a model ends by itself, and an
# answer that is cut off is worth nothing. As much as the embedded models' longest reply.
LEAST_ROOM = 448


class Dispatcher:
    """One per executor. ``make`` turns a policy's name, as a question may give it, into one."""

    def __init__(self, parts: Parts, rng: random.Random, make: Make | None = None) -> None:
        self.flights = Flights()
        self.predictor = Predictor()  # for deadlines, whatever the policy goes by
        self.tail = Tail(parts.limits.hedge_share)
        self._parts = parts
        self._rng = rng
        self._make = make
        self._named: dict[str, Parts] = {}
        self._default = ""  # the policy of who names none; empty: as configured

    def parts_for(self, policy: str) -> Parts:
        """The parts with this policy in place of the configured one; empty: as configured.

        Raises :class:`ConfigError` for a name that is not known. Only registered names are
        taken: a question must not load code.
        """
        policy = policy or self._default
        if not policy:
            return self._parts
        if policy not in self._named:
            if self._make is None or ":" in policy:
                raise ConfigError(
                    f"a question cannot bring the policy {policy!r}",
                    hint="name one of the built-in or installed ones",
                )
            made = self._make(policy)
            self._named[policy] = msgspec.structs.replace(self._parts, policy=made)
        return self._named[policy]

    def use(self, policy: str) -> None:
        """Schedule by this policy from now on, what names none; empty: as configured again.

        Raises :class:`ConfigError` as :meth:`parts_for` does.
        """
        self.parts_for(policy)
        self._default = policy

    def job(self, options: AskOptions, question: str) -> Job:
        """What will be asked, as far as it can be told before a model has read it."""
        expected = options.max_tokens or self._parts.complexity.estimate(question).answer_tokens
        said = [options.system, *(message.content for message in options.history), question]
        return _job("\n".join(said), expected)

    def job_of(self, request: Generate) -> Job:
        """The same of a request to a model. Its ``max_tokens`` is a bound that programs set
        generously: how long answers are is learnt, and the bound only cuts that."""
        prompt = "\n".join(message.content for message in request.messages)
        return _job(prompt, min(request.max_tokens, self.predictor.answer_tokens))

    def context(self, options: AskOptions, job: Job, name: str, now: float, end: float) -> Context:
        """What a policy may look at for a call of ``name`` that must be over at ``end``."""
        return Context(
            rng=self._rng,
            dispatched=self.flights.counts(),
            objective=options.objective,
            now=now,
            flights=self.flights,
            job=job,
            time_left_s=max(0.0, end - now),
            patience_s=options.patience_s or math.inf,
            accuracy_floor=options.accuracy_floor,
            service_class=name,
        )

    def request(self, options: AskOptions, state: StepState) -> tuple[Generate, float]:
        """The body of a call for this step, and how difficult the question is held to be."""
        messages = [Message("system", options.system)] if options.system else []
        if not state.step.depends and state.step.question == state.question:
            messages += options.history
        messages.append(Message("user", state.question))
        estimate = self._parts.complexity.estimate(state.question)
        request = Generate(
            messages=messages,
            max_tokens=options.max_tokens or max(LEAST_ROOM, estimate.answer_tokens),
            temperature=options.temperature,
            seed=options.seed,
        )
        return request, estimate.difficulty

    def line(self, order: Sequence[Offer], context: Context) -> tuple[Offer, ...]:
        """Where to stand in line besides the first choice; nowhere while that has a free slot."""
        return in_line(order, context, self._parts.limits.lines)[1:]

    def spare(self, order: Sequence[Offer], context: Context) -> Offer | None:
        """Who could be asked beside the first choice if that is a straggler: a node that has a
        free slot now, for a hedge must not make others wait."""
        return next((offer for offer in order[1:] if busy(offer, context) < 1.0), None)

    @contextmanager
    def calling(
        self,
        line: Line,
        job: Job,
        task: Task,
        assembly: Assembly,
        clock: Callable[[], float],
        flight: Flight | None = None,
    ) -> Iterator[Flight]:
        """One call: counted while it lasts, and told to every policy that learns. ``flight`` is
        one that was opened beforehand, for a call that leaves a moment later."""
        flight = flight or self.flights.open(line.offer.node, clock())
        status = "failed"
        try:
            yield flight
            status = "ok"
        except Rejected:
            status = "rejected"
            raise
        except GeneratorExit:
            status = "cancelled"
            raise
        except (DeadlineExceeded, TimeoutError):
            status = "impatient" if flight.first_at < 0 else "failed"
            raise
        finally:
            if assembly.done is not None:  # whatever befell the link after the last message
                status = "ok"
            self.flights.close(flight)
            self._tell(_outcome(line.offer, job, task, assembly, flight, status, clock()))

    def heard(self, flight: Flight, tokens: int, now: float) -> None:
        """``tokens`` more of its answer have come."""
        if flight.first_at < 0:
            flight.first_at = now
        flight.tokens += max(0, tokens)

    def _tell(self, outcome: Outcome) -> None:
        self.tail.observe(outcome)
        self.predictor.observe(outcome)
        for parts in (self._parts, *self._named.values()):
            if isinstance(parts.policy, Learner):
                parts.policy.observe(outcome)


@asynccontextmanager
async def closing(stream: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close the stream when leaving: closing it is what cancels the call."""
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def _outcome(
    offer: Offer, job: Job, task: Task, assembly: Assembly, flight: Flight, status: str, now: float
) -> Outcome:
    done = assembly.done
    usage = done.usage if done is not None else None
    return Outcome(
        node=offer.node,
        name=offer.served.name,
        at=now,
        status=status if status != "ok" or done is not None else "failed",
        prompt_tokens=usage.prompt_tokens if usage else job.prompt_tokens,
        cached_tokens=usage.cached_tokens if usage else 0,
        tokens=(usage.completion_tokens if usage else 0) or assembly.tokens,
        first_token_s=flight.first_at - flight.started if flight.first_at >= 0 else -1.0,
        total_s=now - flight.started,
        round_trip_s=offer.round_trip_s,
        expected_wait_s=0.0 if offer.load < 1.0 else 1.0,
        deadline_s=task.deadline - flight.started,
        prefix=job.prefix if status == "ok" else (),
        cost=done.paid.cost if done is not None and done.paid is not None else 0.0,
        service_class=offer.served.name,
    )


def _job(prompt: str, answer_tokens: float) -> Job:
    return Job(
        prompt_tokens=max(1, len(prompt) // CHARS_PER_TOKEN),
        answer_tokens=answer_tokens,
        prefix=_blocks(prompt),
        block_tokens=BLOCK_CHARS // CHARS_PER_TOKEN,
    )


def _blocks(prompt: str) -> tuple[int, ...]:
    """A hash for each whole block of the prompt, over all that comes before it."""
    running = hashlib.blake2b(digest_size=8)
    blocks = []
    for end in range(BLOCK_CHARS, min(len(prompt), BLOCK_CHARS * MAX_BLOCKS) + 1, BLOCK_CHARS):
        running.update(prompt[end - BLOCK_CHARS : end].encode("utf-8", "surrogatepass"))
        blocks.append(int.from_bytes(running.digest(), "big"))
    return tuple(blocks)
