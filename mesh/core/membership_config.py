"""What membership can be told, and what each choice costs."""

from __future__ import annotations

import msgspec


class MembershipConfig(msgspec.Struct, frozen=True):
    """All times in seconds. The defaults are for a LAN of boards, at times a bad one.

    How they add up to a silent crash seen within 8 s everywhere: the dead node's neighbour
    probes it within ``probe_period_s``; the probe fails after ``probe_timeout_min_s`` (a
    half more for a peer never measured) + ``relay_wait_s`` = 1.5 s on a LAN; the accusation
    makes others look for themselves, 1.5 s more, and while they do the suspect has
    ``suspicion_min_s`` from the first accusation to refute. In all 4 to 5.5 s, and 6.5 to 8 s
    for one that was not steady; in a mesh of two the same from one's own probes alone.

    ``probe_period_s``: each node probes one other in turn per period and, in a mesh of more
    than a few, its neighbour in the order of ids. Twice as often halves the first second of
    detection and doubles the idle traffic (about 110 bytes a second).

    ``probe_timeout_first_s``: for a peer never measured. Over TCP with 10 % packet loss one
    round trip in fifteen takes more than half a second (retransmission after 200 ms,
    doubling), so 1.5 s lets all but one in a hundred pass.

    ``probe_timeout_min_s`` and ``_max_s`` bound the timeout that follows the measured round
    trips (RFC 6298: mean plus four deviations). Below 0.5 s one lost TCP segment and its
    retransmission look like a failure; above 3 s a slow peer delays its own detection.

    ``repeat_min_s``: an unanswered ping is repeated once the measured round trip and four
    deviations are over, and not sooner than this (any round trip on a LAN is shorter). What was
    lost as a datagram, or on a link that broke, is not an absence: a dozen pings in place of
    two let a healthy node's probe fail once in forty and not every other time when half of all
    messages are lost. Smaller tries harder, for 30 bytes a ping that is not answered.

    ``relays`` asked when a direct probe does not come back (SWIM's k). More of them find a
    way around a broken link with more certainty, for about 300 bytes each per failure.

    ``relay_wait_s``: what the indirect probe is given. Relays say "nor could I" before it is
    over, which tells this node that its own ears work.

    ``suspicion_min_s``: what a suspect has to refute once enough others confirm. It must
    cover one gossip to the suspect and one back, with retransmissions. It grows with the
    logarithm of the mesh above about 30 nodes, as gossip takes longer there.

    ``broken_link_factor``: suspicion lasts this part of its minimum for a node whose link to
    this one was reset and that does not answer on a new one. A process that ended has its
    links reset by its machine; one that stalls keeps them.

    ``suspicion_max_s``: the same when nobody confirms. Larger spares nodes that only this
    node cannot reach; smaller finds a crash sooner while other detectors are broken.

    ``confirmations``: distinct other accusers that bring suspicion down to its minimum
    (Lifeguard's K = 3).

    ``quorum``: distinct accusers on whose word a node acts against its own lack of evidence.
    It is how many certified nodes must lie together to remove a healthy one, which can still
    refute. One is never enough: then a single stolen board could empty the mesh.

    ``lookers``: how many nodes of the mesh, on average, probe an accused node at once to see
    for themselves. Without a bound one liar would aim a thousand probes at one board.

    ``accusation_life_s``: wall-clock age up to which an accusation counts. It stops the
    replay of old ones; generous, since clocks of boards differ.

    ``refute_gap_s``: a node refutes at most once per gap, or one liar could make it fill the
    mesh with signed refutations.

    ``health_max``: Lifeguard's local health multiplier at its worst; probe period and timeout
    are (health + 1) times as long. A node that cannot keep up slows its own accusations.

    ``sleep_s``: woken later than planned by more than this, a node takes it that it was not
    run (frozen, swapped out, starved) and gives all running timeouts that time again.

    ``suspicion_unsteady_s``, ``steady_s``: a peer known for less than ``steady_s``, or that
    stalled within it, is given this long to refute in place of ``suspicion_min_s``. A board
    that is short of CPU stalls again and again, so it never earns the short patience; one that
    answered without a stall for a minute has, and its crash is seen some three seconds sooner.
    With the first two seconds of detection it stays under eight.

    ``silence_min_s``: accused for longer than this and answering after all, a peer has
    stalled; what is shorter is packets lost. Everybody who heard the accusation learns it.

    ``silence_trust``, ``silence_max_s``, ``silence_half_life_s``: a peer that stalled is given
    ``silence_trust`` times that silence to refute the next time, at most ``silence_max_s``;
    the memory halves every ``silence_half_life_s``. So a board that often stalls for six
    seconds costs at most one false alarm, not one a minute; its real crash is seen some
    seconds later.

    ``newcomer_s``: so long after a node became known, that it neither answered nor probed this
    node yet says nothing: it may still be learning who this node is, and refuses strangers.

    ``dead_probe_period_s``: every so often one of the dead is asked whether it is back. Both
    halves of a split mesh do this, so that it heals by itself once packets pass again.
    """

    probe_period_s: float = 1.0
    probe_timeout_first_s: float = 1.5
    probe_timeout_min_s: float = 0.5
    probe_timeout_max_s: float = 3.0
    repeat_min_s: float = 0.125
    relays: int = 3
    relay_wait_s: float = 1.0
    suspicion_min_s: float = 2.5
    suspicion_max_s: float = 6.0
    broken_link_factor: float = 0.5
    confirmations: int = 3
    quorum: int = 3
    lookers: float = 10.0
    accusation_life_s: float = 3600.0
    refute_gap_s: float = 0.5
    health_max: int = 8
    sleep_s: float = 0.5
    suspicion_unsteady_s: float = 5.5
    steady_s: float = 60.0
    silence_min_s: float = 1.0
    silence_trust: float = 4.0
    silence_max_s: float = 10.0
    silence_half_life_s: float = 900.0
    newcomer_s: float = 5.0
    dead_probe_period_s: float = 2.0
