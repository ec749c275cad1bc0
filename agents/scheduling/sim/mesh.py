"""A mesh of simulated nodes serving a load, event by event, with the code that runs on nodes.

Nodes admit by :class:`~agents.scheduling.admission.Gate` and give out slots by the engine's own
:class:`~capabilities.slm.batching.Batcher`; ingress nodes choose by a policy each, from
pictures of the others' load as old as gossip makes them. Only the network and the computing
are replaced, by delays.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from agents.orchestrator.freshness import worth_asking
from agents.port import Offer
from agents.scheduling.admission import Ask, Gate
from agents.scheduling.flights import Flight, Flights
from agents.scheduling.policies import Context, Learner, Policy, in_line
from agents.scheduling.prediction import Job, Outcome, Prediction
from agents.scheduling.sim.model import BLOCK_TOKENS, Change, Rules, Served
from agents.scheduling.sim.workload import Machine, Request
from capabilities.slm.batching import Batcher
from mesh.core.records import ServedName

NAME = "computation.gpt/generate"
UNBOUNDED = 1 << 40  # tokens of context: the lengths of a load fit by construction


@dataclass(slots=True)
class _Node:
    machine: Machine
    number: int
    gate: Gate
    batcher: Batcher
    offer: Offer
    speed: float = 1.0
    present: bool = True
    running: dict[int, _Job] = field(default_factory=dict)
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    changed: bool = True

    def current(self) -> Offer:
        """Its offer with the load as it is now: seen later than any call of one's own."""
        if self.changed:
            self.changed = False
            load = self.gate.taken / self.gate.slots
            self.offer = msgspec.structs.replace(self.offer, load=load, seen_at=math.inf)
        return self.offer


@dataclass(slots=True)
class _Place:
    """One request of one ingress node, and where it stands in line."""

    ingress: int
    chosen: int
    decided: int
    legs: list[_Job] = field(default_factory=list)


@dataclass(slots=True)
class _Job:
    request: Request
    key: int
    place: _Place
    flight: Flight
    node: _Node
    expected_wait_s: float
    cached: int = 0
    first_at: float = -1.0
    reading: float = 0.0  # seconds of reading still to do at nominal speed when ``since``
    left: float = 0.0  # tokens still to write when ``since``
    since: float = 0.0
    version: int = 0


@dataclass(slots=True)
class _Ingress:
    number: int
    policy: Policy
    flights: Flights
    view: dict[int, tuple[float, float]] = field(default_factory=dict)  # node: load, seen at


class Simulation:
    """One run. ``policies`` makes the policy of an ingress node."""

    def __init__(
        self,
        machines: Sequence[Machine],
        requests: Sequence[Request],
        policies: Callable[[], Policy],
        rules: Rules,
        rng: random.Random,
        changes: Sequence[Change] = (),
    ) -> None:
        self._rules, self._rng = rules, rng
        self._requests = requests
        self._nodes = [self._make(number, machine) for number, machine in enumerate(machines)]
        for change in changes:
            if change.factor == 0:
                self._nodes[change.node].present = False
        self._ingress = [_Ingress(number, policies(), Flights()) for number in range(rules.ingress)]
        self._heap: list[tuple[float, int, str, object]] = []
        self._order = 0
        self._now = 0.0
        self._decisions = 0
        self.served: list[Served] = []
        self.rejected = 0  # REJECTs of nodes
        self.asked = 0  # loads asked for
        self.given_up = 0  # requests whose patience ended in a queue
        for change in changes:
            self._push(change.at, "change", change)
        if rules.age_s > 0:
            for number in range(rules.ingress):
                # Every node hears the others at its own moment.
                self._push(rng.random() * rules.age_s, "gossip", number)
                self._look_around(self._ingress[number])

    def _make(self, number: int, machine: Machine) -> _Node:
        rules = self._rules
        offer = Offer(
            node=number.to_bytes(4, "big"),
            node_name=machine.name,
            served=ServedName(NAME),
            me=False,
            healthy=True,
            load=0.0,
            slots=machine.slots,
            tokens_per_s=machine.claims or machine.tokens_per_s,
            prompt_tokens_per_s=machine.prompt_tokens_per_s or 1e9,
            round_trip_s=rules.round_trip_s,
        )
        batcher = Batcher(
            slots=machine.slots,
            cells=UNBOUNDED,
            sequence=UNBOUNDED,
            batch=machine.slots,
            chunk=1,
            max_waiting=rules.queue + machine.slots,
        )
        guess_s = machine.service_s(100, 100)
        gate = Gate(slots=machine.slots, queue=rules.queue, answer_s=guess_s)
        return _Node(machine, number, gate, batcher, offer)

    def run(self) -> list[Served]:
        """Serve everything; what became of each request, in the order of their ends."""
        coming = iter(self._requests)
        request = next(coming, None)
        while request is not None or self._heap:
            if request is not None and (not self._heap or request.at <= self._heap[0][0]):
                self._now = request.at
                self._arrive(request)
                request = next(coming, None)
                continue
            self._now, _, kind, what = heapq.heappop(self._heap)
            if kind == "finish":
                self._finish(what)  # type: ignore[arg-type]
            elif kind == "patience":
                self._give_up(what)  # type: ignore[arg-type]
            elif kind == "change":
                self._change(what)  # type: ignore[arg-type]
            elif request is not None:
                assert isinstance(what, int)
                self._look_around(self._ingress[what])
                self._push(self._now + self._rules.age_s, "gossip", what)
        return self.served

    # -- the asking side -------------------------------------------------------------------

    def _arrive(self, request: Request) -> None:
        ingress = self._ingress[request.caller % len(self._ingress)]
        self._decisions += 1
        if not self._try(request, ingress, request.at, frozenset(), self._rules.limit_s):
            self._cloud(request, request.at, chosen=-1)

    def _try(
        self,
        request: Request,
        ingress: _Ingress,
        begun: float,
        exclude: frozenset[int],
        patience_s: float,
    ) -> bool:
        """Ask nodes in the policy's order; True when one took it."""
        rules = self._rules
        context = self._context(request, ingress, patience_s)
        order = ingress.policy.order(self._offers(ingress, exclude), context)
        if rules.ask_fresh and (asked := worth_asking(order, ingress.policy, context)):
            for number in (int.from_bytes(node, "big") for node in asked):
                gate = self._nodes[number].gate
                ingress.view[number] = (gate.taken / gate.slots, self._now)
            self.asked += len(asked)
            order = ingress.policy.order(self._offers(ingress, exclude), context)
        if not order:
            return False
        place = _Place(ingress.number, int.from_bytes(order[0].node, "big"), self._decisions)
        for _ in range(1 + rules.redirects):
            line = in_line(order, context, rules.ties)
            order = [offer for offer in order if offer not in line]
            for offer in line:
                node = self._nodes[int.from_bytes(offer.node, "big")]
                if not self._ask(request, ingress, node, offer, context, place, len(line)):
                    self.rejected += 1
                if any(leg.first_at >= 0 for leg in place.legs):
                    break
            if place.legs:
                break
        if not place.legs:
            return False
        if patience_s < math.inf and all(leg.first_at < 0 for leg in place.legs):
            self._push(self._now + patience_s, "patience", place)
        return True

    def _context(self, request: Request, ingress: _Ingress, patience_s: float) -> Context:
        rules = self._rules
        self._hear(ingress)
        return Context(
            rng=self._rng,
            now=self._now,
            flights=ingress.flights,
            job=Job(
                prompt_tokens=request.prompt,
                answer_tokens=request.answer if rules.lengths_known else 0,
                prefix=request.prefix,
                block_tokens=BLOCK_TOKENS,
            ),
            patience_s=patience_s,
            time_left_s=rules.deadline_s,
        )

    def _hear(self, ingress: _Ingress) -> None:
        """Bring the calls under way up to what the ingress node has heard by now."""
        predictor = getattr(ingress.policy, "predictor", None)
        if predictor is None or not predictor.due(self._now):
            return
        for node in self._nodes:
            for job in node.running.values():
                if job.place.ingress == ingress.number and 0 <= job.first_at <= self._now:
                    job.flight.first_at = job.first_at
                    spent = (self._now - job.since) * node.speed - job.reading
                    written = max(0.0, spent) * node.machine.tokens_per_s
                    job.flight.tokens = int(job.request.answer - job.left + written)

    def _offers(self, ingress: _Ingress, exclude: frozenset[int]) -> list[Offer]:
        fresh = self._rules.age_s <= 0
        offers = []
        for node in self._nodes:
            if not node.present or node.number in exclude:
                continue
            if fresh:
                offer = node.current()
            else:
                load, seen_at = ingress.view.get(node.number, (0.0, -math.inf))
                offer = msgspec.structs.replace(node.offer, load=load, seen_at=seen_at)
            offers.append(offer)
        return offers

    def _look_around(self, ingress: _Ingress) -> None:
        for node in self._nodes:
            if node.present:
                ingress.view[node.number] = (node.gate.taken / node.gate.slots, self._now)

    def _ask(
        self,
        request: Request,
        ingress: _Ingress,
        node: _Node,
        offer: Offer,
        context: Context,
        place: _Place,
        lines: int,
    ) -> bool:
        self._order += 1
        key = self._order
        decision = node.gate.admit(
            key,
            Ask(caller=str(request.caller), patience_s=context.patience_s, lines=lines),
            self._now,
        )
        node.changed = node.changed or decision.accepted
        if self._rules.age_s > 0:  # every reply brings the load at that moment
            ingress.view[node.number] = (node.gate.taken / node.gate.slots, self._now)
        if not decision.accepted:
            self._told(
                ingress, Outcome(node=offer.node, name=NAME, at=self._now, status="rejected")
            )
            return False
        predicted = self._predicted(ingress, offer, context)
        job = _Job(
            request=request,
            key=key,
            place=place,
            flight=ingress.flights.open(offer.node, self._now),
            node=node,
            expected_wait_s=predicted.wait_s if predicted else decision.wait_s,
        )
        node.batcher.submit(
            key, request.prompt, request.answer, owner=str(request.caller), now=self._now
        )
        node.running[key] = job
        place.legs.append(job)
        self._seat(node)
        return True

    @staticmethod
    def _predicted(ingress: _Ingress, offer: Offer, context: Context) -> Prediction | None:
        predict = getattr(ingress.policy, "predict", None)
        return predict(offer, context) if predict is not None else None

    # -- the serving side ------------------------------------------------------------------

    def _seat(self, node: _Node) -> None:
        for seated in node.batcher.join(self._now):
            job = node.running[seated.key]
            node.gate.begin(job.key, self._now)
            machine, request = node.machine, job.request
            job.cached = self._cached(node, request)
            reading = 0.0
            if machine.prompt_tokens_per_s:
                reading = (request.prompt - job.cached) / machine.prompt_tokens_per_s
            job.reading, job.left, job.since = reading, float(request.answer), self._now
            self._plan(node, job)
            for other in job.place.legs:
                if other is not job:
                    self._leave(other.node, other, whole=False)
            job.place.legs = [job]

    def _plan(self, node: _Node, job: _Job) -> None:
        rate = node.machine.tokens_per_s
        job.version += 1
        if job.left >= job.request.answer:
            job.first_at = self._now + (job.reading + 1 / rate) / node.speed
        end = self._now + (job.reading + job.left / rate) / node.speed
        self._push(end, "finish", (job, job.version))

    def _finish(self, what: tuple[_Job, int]) -> None:
        job, version = what
        if job.version != version:
            return
        node, request = job.node, job.request
        self._leave(node, job, whole=True)
        half_s = self._rules.round_trip_s
        first_s, total_s = job.first_at - request.at + half_s, self._now - request.at + half_s
        self.served.append(
            Served(
                at=request.at,
                answer=request.answer,
                node=node.number,
                first_token_s=first_s,
                total_s=total_s,
                chosen=job.place.chosen,
                decided=job.place.decided,
            )
        )
        sent = job.flight.started
        self._told(
            self._ingress[job.place.ingress],
            Outcome(
                node=node.offer.node,
                name=NAME,
                at=self._now,
                prompt_tokens=request.prompt,
                cached_tokens=job.cached,
                tokens=request.answer,
                first_token_s=job.first_at - sent + half_s,
                total_s=self._now - sent + half_s,
                round_trip_s=half_s,
                expected_wait_s=job.expected_wait_s,
                deadline_s=self._rules.deadline_s,
                prefix=request.prefix,
            ),
        )
        self._seat(node)

    def _give_up(self, place: _Place) -> None:
        """Its first token did not come in time: one other node may have a free slot, or else
        it goes to the cloud."""
        if any(leg.first_at >= 0 for leg in place.legs):
            return
        self.given_up += 1
        ingress, request = self._ingress[place.ingress], place.legs[0].request
        for leg in place.legs:
            self._leave(leg.node, leg, whole=False)
            offer = leg.node.offer
            self._told(
                ingress, Outcome(node=offer.node, name=NAME, at=self._now, status="impatient")
            )
        tried = frozenset(leg.node.number for leg in place.legs)
        if not self._rules.redirects or not self._try(request, ingress, self._now, tried, 0.0):
            self._cloud(request, self._now, chosen=place.chosen)

    def _leave(self, node: _Node, job: _Job, *, whole: bool) -> None:
        node.batcher.leave(job.key)
        node.gate.end(job.key, self._now, whole=whole)
        node.running.pop(job.key, None)
        node.changed = True
        ingress = self._ingress[job.place.ingress]
        ingress.flights.close(job.flight)
        if self._rules.age_s > 0:
            ingress.view[node.number] = (node.gate.taken / node.gate.slots, self._now)

    def _cached(self, node: _Node, request: Request) -> int:
        if not node.machine.cache_blocks or not request.prefix:
            return 0
        found = 0
        for block in request.prefix:
            if block not in node.cache:
                break
            found += 1
        for block in request.prefix:
            node.cache[block] = None
            node.cache.move_to_end(block)
        while len(node.cache) > node.machine.cache_blocks:
            node.cache.popitem(last=False)
        return min(found * BLOCK_TOKENS, max(0, request.prompt - 1))

    def _change(self, change: Change) -> None:
        node = self._nodes[change.node]
        if change.factor == 0:
            node.present = True
            return
        for job in node.running.values():
            if job.first_at < 0:
                continue
            spent = (self._now - job.since) * node.speed
            read = min(spent, job.reading)
            job.reading -= read
            job.left = max(0.0, job.left - (spent - read) * node.machine.tokens_per_s)
            job.since = self._now
        node.speed = change.factor
        for job in list(node.running.values()):
            if job.first_at >= 0:
                self._plan(node, job)

    # -- the rest --------------------------------------------------------------------------

    def _cloud(self, request: Request, now: float, *, chosen: int) -> None:
        rules = self._rules
        waited = now - request.at
        first_s = waited + rules.cloud_first_token_s
        self.served.append(
            Served(
                at=request.at,
                answer=request.answer,
                node=-1,
                first_token_s=first_s,
                total_s=first_s + request.answer / rules.cloud_tokens_per_s,
                cost=rules.prices.cost(request.prompt, request.answer),
                chosen=chosen,
                decided=self._decisions,
            )
        )

    def _told(self, ingress: _Ingress, outcome: Outcome) -> None:
        if isinstance(ingress.policy, Learner):
            ingress.policy.observe(outcome)

    def _push(self, at: float, kind: str, what: object) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, kind, what))
