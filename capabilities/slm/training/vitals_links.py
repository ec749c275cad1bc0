"""What a reading of vital signs is put together of: what it is called, a link, its number.

Whoever knows only whole phrases (vitals_words.py) takes the next one for another reading.
"""

from __future__ import annotations

# {v} and {d}, the number and the lower one of a blood pressure, follow the link.
NAMES = {
    "pulse": "pulse, heart rate, heart beat, HR, heartbeat, resting pulse, pulse rate, heart",
    "respiration": "respiration, respiratory rate, breathing rate, breathing, RR, breath rate, "
    "rate of breathing, respiration rate",
    "spo2": "SpO2, oxygen saturation, blood oxygen, saturation, sats, oxygen level, O2 saturation",
    "systolic": "blood pressure, BP, systolic, systolic pressure, systolic blood pressure",
    "temperature": "temperature, body temperature, temp, core temperature, ear temperature, T",
}
SKIN_NAMES = "skin temperature, skin temp, wrist temperature, temperature on the skin, outer skin"
SLEEP_NAMES = "sleep, sleep time, night sleep, time asleep, last night's sleep"
OWNERS = ("", "", "", "the ", "my ", "his ", "her ", "a ", "the patient's ", "grandmother's ")
LINKS = (
    " ", ": ", "=", " = ", " is ", " at ", " of ", " now ", " shows ", " stands at ", " comes to ",
    " measured at ", " has been ", " came out at ", " - ", " currently ", " around ", " about ",
    " up to ", " down to ", " given as ", " seen at ", " stayed at ", " rose to ", " fell to ",
    " says ", " recorded as ", " today ", " went to ", " is now ", " is about ", ", measured, ",
    " on the display ", " found to be ", " still ", " before it ", " -> ", " | ",
)  # fmt: skip
UNITS = {
    "pulse": ("", "", "", " bpm", "/min", " beats", " per minute"),
    "respiration": ("", "", "", "/min", " breaths", " per minute"),
    "spo2": ("", "", "%", " %", " percent"),
    "systolic": ("/{d}", "/{d}", " over {d}", "/{d} mmHg", "", " mmHg"),
    "temperature": ("", "", " C", "°C", " degrees", " degrees C"),
}
# Activities to put together with how one speaks of them.
DOING = (
    "running", "cycling", "swimming", "climbing stairs", "dancing", "jogging", "rowing", "hiking",
    "gardening", "playing football", "lifting weights", "skipping", "a workout", "a race", "sport",
    "training", "a long walk", "shovelling snow",
)  # fmt: skip
DOING_FRAMES = (
    "while #", "during #", "activity: #", "activity = #", "activity is #", "just after #",
    "directly after #", "in the middle of #", "fresh from #", "straight from #", "activity #",
)  # fmt: skip
