"""How people and detectors tell of traffic. The second of each pair is never trained on."""

from __future__ import annotations

UNITS = {
    "km/h": (" km/h", " km/h", "km/h", " kmh", " kph", " kilometres per hour"),
    "mph": (" mph", " mph", "mph", " mi/h", " miles per hour"),
}
# {v} is the speed, {l} the limit, with or without units.
SPEEDS = (
    (
        "speed {v}",
        "speed {v}",
        "speed: {v}",
        "average speed {v}",
        "average speed is {v}",
        "mean speed {v}",
        "cars go {v}",
        "the cars drive {v}",
        "traffic moves at {v}",
        "traffic at {v}",
        "{v} average",
        "vehicles at {v}",
        "speed of {v}",
        "the speed is {v}",
        "speed is down to {v}",
        "speed={v}",
        '"speed": {v}',
        "we drive {v}",
        "it flows at {v}",
        "the detector reads {v}",
        "speed at {v}",
        "a mean speed of {v}",
    ),
    ("the average speed reads {v}", "vehicles move at {v}", "measured speed {v}", "speed was {v}"),
)
LIMITS = (
    (
        "limit {l}",
        "limit {l}",
        "speed limit {l}",
        "limit: {l}",
        "the limit is {l}",
        "where {l} is allowed",
        "free flow {l}",
        "free flow speed {l}",
        "allowed {l}",
        "limit of {l}",
        "in a {l} zone",
        "limit={l}",
        '"limit": {l}',
        "on a {l} road",
        "maximum {l}",
        "the speed limit is {l}",
    ),
    ("with a limit of {l}", "speed limit: {l}", "the limit there is {l}"),
)
BOTH = (
    (
        "{v} of {l}",
        "{v} in a {l} zone",
        "{v} where {l} is allowed",
        "{v} instead of {l}",
        "{v} at a limit of {l}",
        "{v}, limit {l}",
    ),
    ("{v} on a street with limit {l}",),
)
# {u} is an earlier speed.
HISTORIES = (
    (
        "speed was {u}, now {v}",
        "speed {u} before, {v} now",
        "speed went from {u} to {v}",
        "an hour ago {u}, now {v}",
        "speed {u} then {v}",
        "speed from {u} to {v}",
        "earlier {u}, now {v}",
        "it was {u} and is {v} now",
        "speed changed from {u} to {v}",
        "first {u}, then {v}",
        '"speed": [{u}, {v}]',
    ),
    ("speed moved from {u} to {v}", "before it was {u}, now it is {v}"),
)
# {q} is the volume, {c} the capacity, in vehicles per hour.
VOLUMES = (
    (
        "{q} vehicles per hour of {c}",
        "volume {q}, capacity {c}",
        "volume {q} of capacity {c}",
        "{q} vehicles per hour, capacity {c}",
        "flow {q}, capacity {c}",
        "{q} cars an hour on a capacity of {c}",
        "{q} veh/h of {c} veh/h",
        "capacity {c}, volume {q}",
        "volume={q}, capacity={c}",
        '"volume": {q}, "capacity": {c}',
        "{q}/{c} veh/h",
        "demand {q}, capacity {c}",
    ),
    ("{q} cars per hour against a capacity of {c}", "volume is {q} and capacity is {c}"),
)
VOLUME_ALONE = ("{q} vehicles per hour", "volume {q}", "{q} cars an hour", "flow {q} veh/h")
INCIDENTS = {
    "crash": (
        ("a crash", "crash on lane 1", "accident", "an accident", "two cars crashed", "collision"),
        ("there is an accident", "crash reported"),
    ),
    "closed": (
        (
            "lane closed",
            "one lane closed",
            "a lane is blocked",
            "lane 2 closed",
            "road half closed",
        ),
        ("one lane is closed", "left lane blocked"),
    ),
    "works": (
        ("road works", "roadworks", "construction", "a work zone", "works on the road"),
        ("there are road works", "construction site"),
    ),
}
WEATHER = {
    "rain": (
        ("rain", "heavy rain", "raining", "wet road", "it rains", "showers"),
        ("it is raining", "some rain"),
    ),
    "snow": (
        ("snow", "ice", "icy road", "it snows", "snow on the road", "frost"),
        ("it is snowing", "ice on the road"),
    ),
    "fog": (("fog", "foggy", "dense fog", "low sight", "thick fog"), ("there is fog", "some fog")),
}
BESIDE = (
    "at {a}:00",
    "detector {b}",
    "camera {a}",
    "{a} degrees",
    "highway {a}",
    "bridge {a}",
    "dry",
    "sunny",
    "no incidents",
    "two lanes",
    "{a} lanes",
    "direction north",
    "on the bridge",
    "in the tunnel",
    "monday morning",
    "rush hour",
)

# {r} is what was measured.
FRAMES = (
    (
        "{r}",
        "{r}",
        "{r}",
        "{r}",
        "how is the traffic: {r}",
        "traffic: {r}",
        "{r}. how bad is it",
        "{r}. is that a jam",
        "{r}. should I take another route",
        "what is the state with {r}",
        "level of service for {r}",
        "the road has {r}",
        "judge the traffic: {r}",
        "{r}. what should drivers do",
        "detector data: {r}",
        "is the road free? {r}",
        "classify {r}",
        "{{{r}}}",
        "what does {r} mean",
        "{r}. will I be late",
        "report: {r}",
        "{r}. state?",
        "we see {r}",
        "the camera shows {r}. what is the state",
        "is it congested: {r}",
        "tell me about the road: {r}",
        "{r}. advice for drivers",
        "give me the traffic state for {r}",
        "on my way: {r}",
        "{r}. can I drive there",
        "what is the LOS of {r}",
        "assess {r}",
    ),
    (
        "how would you rate the traffic with {r}",
        "road report: {r}",
        "{r}. is the street congested",
        "our detectors say {r}. what now",
        "tell the drivers what {r} means",
        "which level of service is {r}",
    ),
)

# About traffic, but without a speed and a limit.
NO_READINGS = (
    "how is the traffic",
    "is there a jam on the bridge",
    "traffic on highway {a}",
    "which route is faster",
    "is the road free",
    "there is an accident on highway {a}",
    "{b} vehicles per hour",
    "volume {b}, capacity {b}",
    "it snows, how are the roads",
    "will I be late",
    "what is level of service",
    "the speed limit is {l} km/h",
    "limit {l} mph, heavy rain",
    "cars drive {l} km/h",
    "average speed {l} mph",
    "speed {l} km/h, rain",
    "when does rush hour end",
    "road works on bridge {a}",
    "is the tunnel closed",
    "how long is the queue",
    "traffic please",
    "the lane is closed",
    "how many cars are there",
    "occupancy {a} %",
    "can I park there",
)
NO_READINGS_HELD_OUT = (
    "how is the traffic today",
    "is the bridge free",
    "speed limit {l} mph",
    "mean speed {l} km/h",
    "{b} cars an hour",
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the traffic expert of a Gossamer mesh.",
    "Answer briefly.",
    "You are knowledge.gpt/traffic.",
    "You judge traffic by the level of service.",
    "You are a small model on a small board. Answer in one line.",
    "Do one step of a plan. Give only the result of this step.",
    "Be exact.",
)
