"""How people and sensors tell of the air. The second of each pair is never trained on."""

from __future__ import annotations

NAMES = {
    "pm2_5": ("PM2.5", "PM2.5", "pm2.5", "PM 2.5", "fine particles", "fine dust", "pm2_5"),
    "pm10": ("PM10", "PM10", "pm10", "PM 10", "coarse particles", "coarse dust"),
    "o3": ("ozone", "ozone", "O3", "o3"),
    "no2": ("NO2", "NO2", "no2", "nitrogen dioxide"),
    "so2": ("SO2", "SO2", "so2", "sulphur dioxide", "sulfur dioxide"),
    "co": ("CO", "CO", "co", "carbon monoxide"),
}

# {n} is the pollutant, {v} the value with its unit.
READINGS = (
    (
        "{n} {v}",
        "{n} {v}",
        "{n}: {v}",
        "{n} is {v}",
        "{n} at {v}",
        "{n} of {v}",
        "{v} of {n}",
        "{v} {n}",
        "{n} = {v}",
        "{n}={v}",
        "{n} reads {v}",
        "{n} level {v}",
        "the {n} reading is {v}",
        "{n} measured {v}",
        "{n} concentration {v}",
        "we have {n} at {v}",
        "a {n} concentration of {v}",
        "{n} ({v})",
        "{n} is at {v}",
        "{n} shows {v}",
        "the sensor gives {v} for {n}",
        "{v} for {n}",
        "it has {v} of {n}",
        "{n} now {v}",
        "average {n} {v}",
        '"{n}": {v}',
    ),
    (
        "{n} stands at {v}",
        "{n} was measured at {v}",
        "a {n} value of {v}",
        "the level of {n} is {v}",
        "our station reports {v} of {n}",
        "{n} -> {v}",
    ),
)

# {u} and {w} are earlier values, {v} the last.
HISTORIES = (
    (
        "{n} went from {u} to {v}",
        "{n} from {u} to {v}",
        "{n} changed from {u} to {v}",
        "{n} was {u}, now {v}",
        "{n} was {u} and is {v} now",
        "{n} was {u} an hour ago and is {v} now",
        "{n} {u}, then {v}",
        "{n} {u} then {w} then {v}",
        "{n} {u}, {w}, {v}",
        "{n} readings {u}, {w}, {v}",
        "{n} over the last hours: {u}, {w}, {v}",
        '"{n}": [{u}, {w}, {v}]',
    ),
    (
        "{n} moved from {u} to {v}",
        "{n} was {u} before and is {v} now",
        "{n} values {u}, {w}, {v}",
    ),
)

# {r} is what was measured, weather included.
FRAMES = (
    (
        "{r}",
        "{r}",
        "{r}",
        "what is the air quality with {r}",
        "how is the air with {r}",
        "is the air safe? {r}",
        "air quality: {r}",
        "{r}. can I go for a run",
        "{r}. is that bad",
        "{r}. what does it mean",
        "{r}. what should we do",
        "{r}. who should stay inside",
        "{r}. is it safe to go out",
        "which category is this: {r}",
        "give me the index category for {r}",
        "classify {r}",
        "judge the air: {r}",
        "the station says {r}. how good is the air",
        "sensor data: {r}",
        "what is the level for {r}",
        "can the children play outside with {r}",
        "should I open the window? {r}",
        "is {r} healthy",
        "how bad is {r}",
        "we measured {r}. what category is it",
        "tell me about the air: {r}",
        "the air has {r}",
        "{r} - good or bad",
        "{r}. do I need a mask",
        "assess this: {r}",
        "today: {r}",
        "outside we have {r}. what do you say",
        "{r}. category?",
        "{{{r}}}",
        "my monitor shows {r}, is it a problem",
        "the reading from the sensor on the roof: {r}",
        "with {r}, is it good to be outside",
        "what would the air quality index say about {r}",
        "AQI for {r}",
        "what is the AQI category of {r}",
    ),
    (
        "what do you make of {r}",
        "our sensor at home says {r}. is the air good",
        "would you go out with {r}",
        "rate the air quality given {r}",
        "here is the data: {r}. what is the category",
        "{r}. how is the air today",
        "tell me if this is safe: {r}",
        "what does {r} mean for people",
    ),
)

WEATHER = {
    "still": (
        (
            "no wind",
            "wind calm",
            "calm",
            "still air",
            "hardly any wind",
            "fog",
            "foggy",
            "calm air",
        ),
        ("calm weather", "no wind at all"),
    ),
    "wind": (
        ("strong wind", "windy", "a strong wind", "gusts", "storm", "a lot of wind", "high wind"),
        ("very windy", "wind is strong"),
    ),
    "rain": (
        ("rain", "raining", "heavy rain", "rainy", "it rains", "light rain", "wet weather"),
        ("it is raining", "some rain"),
    ),
    "hot": (
        ("hot", "hot and sunny", "very hot", "a hot day", "hot weather", "sunny and hot"),
        ("it is hot", "hot sun"),
    ),
}
# Numbers and words beside the matter; {a} is a small number, {b} one of three digits.
BESIDE = (
    "temperature {a}",
    "{a} degrees",
    "{a} C",
    "humidity {a} %",
    "humidity {a}%",
    "pressure {b} hPa",
    "at {a}:00",
    "station {a}",
    "sensor {b}",
    "node {a}",
    "room {b}",
    "temperature {a} degrees",
    "wind {a} m/s",
)
JOINS = (", ", ", ", ", ", " and ", "; ", " with ", ", and ")

# Asked about the air, but with nothing the index knows.
NO_READINGS = (
    "is the air good today",
    "how is the air",
    "can I go for a run outside",
    "is it safe to open the window",
    "what is the air quality",
    "what is the air quality in {p}",
    "CO2 is {b} ppm",
    "CO2 at {b} ppm, is that bad",
    "the humidity is {a} percent, is the air good",
    "it is {a} degrees and windy, how is the air",
    "air quality please",
    "is there smoke in the air",
    "should we ventilate",
    "radon {b}",
    "the temperature is {a} degrees and it rains, is the air good",
    "is the air in {p} healthy",
    "what does PM2.5 mean",
    "what is ozone",
    "what is the AQI",
    "the air smells bad",
    "there is a fire near {p}",
    "is the ozone high",
    "how much PM10 is bad",
    "lead {b} ug/m3",
    "do I need a mask today",
    "wind {a} m/s, temperature {b}",
)
NO_READINGS_HELD_OUT = (
    "how is the air quality today",
    "is the air clean in {p}",
    "CO2 reads {b} ppm",
    "is it good to be outside today",
    "humidity {a}, is that healthy",
)
PLACES = ("Berlin", "the city", "the kitchen", "Paris", "the office", "the park", "my room", "town")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the air quality expert of a Gossamer mesh.",
    "Answer briefly.",
    "You are knowledge.gpt/air_quality.",
    "You judge the air by the US AQI.",
    "You are a small model on a small board. Answer in one line.",
    "Do one step of a plan. Give only the result of this step.",
    "Be exact.",
)
