"""What the tokenizer learns its merges from: words of every domain the family will speak of.

Byte-level BPE looks at words one by one, never across them, so lists of words with their weight do
the work of sentences. JSON is added for its marks. The words of 3,000 arithmetic questions are
kept as counts (arithmetic_words.json): the questions may change, the tokenizer must not, for every
model of the family speaks it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The words that carry every sentence: these come whole, in lower case and as a first word.
COMMON = """
the a an of to and in is are was be been being it its this that these those for with on at by from
as or not no yes but if then so than when where which what who whom whose how why can could may
might
will would shall should must do does did done have has had i you he she we they me my your our their
his her us them there here all any some each every both few many much more most less least other
another same such only own very too also just even still again once now never always often
sometimes soon later before after during while until since about into onto over under above below
between through against within without near far up down out off one two three four five six seven
eight nine ten first second third last next new old good bad better best worse high higher low lower
large small big little long short fast slow easy hard right wrong true false same different because
however therefore although though whether neither either nor per via like get give go come take make
made let say tell ask show find know think need want use used uses using work works keep put see
look help try call called mean means please thanks thank hello hi hey ok sorry welcome
"""

MESH = """
mesh node nodes peer peers model models gossamer language name names capability capabilities gossip
gossips rumour rumours certificate certificates sign signs signed signature key keys private public
authority invitation invitations invite join joins joined leave leaves left member members
membership
probe probes alive dead die dies died death departed suspect suspicion failure fail fails failed
network networks link links encrypted encryption secret secrets secure security trust policy
policies
access allowed allow refuse refused refuses reject accept accepts deny right rights group groups
server servers leader leaders central cloud local device devices board boards phone phones camera
cameras laptop laptops computer raspberry pi jetson memory storage disk core cores battery process
processes agent agents orchestrator classifier plan plans planner step steps task tasks request
requests answer answers answered question questions call calls stream streams token tokens expert
experts expertise specialist specialists general knowledge data computation domain domains record
records profile status sensor sensors embedding embeddings share shares shared sharing message
messages address addresses resolve resolver resolves discover discovers discovery advertise
advertises accuracy measured measure load queue slot slots busy idle deadline deadlines budget
budgets cost costs pay money escalate escalates escalation rung ladder last resort provider api
openai http console command line gossamer init connect run runs running start starts stop stops
install package python file files gguf quantized quantization llama context window vocabulary
parameter parameters layer layers weight weights train trained training tiny scratch script download
downloads default configuration configure option options setting settings trace traces log logs
explain explains decision decisions decide decides score scores threshold cache cached semantic
draft drafts verify verifies aggregate aggregates combine split splits schedule scheduling privacy
personal anonymous sum sums split masks clock time wall expiry expire expires incarnation sequence
version versions license apache open source code library user users owner people person someone
somebody everyone anyone nobody nothing something anything everything place home house city room
street road wire wireless internet outside inside offline online power off switch error errors crash
crashes crashed restart restarts retry retries wait waits timeout bound bounded limit limits drop
drops count counted protocol transport zeromq curve socket port door invitation fingerprint revoke
revoked ban banned hostile attacker stranger strangers liar lie lies claim claims authority evidence
confidence confident uncertain uncertainty token probability entropy priority fair quality speed
latency bandwidth rate throughput seconds second millisecond milliseconds minute minutes hour hours
day days week weeks month months year years today tomorrow yesterday date
"""

ARITHMETIC = """
add adds added adding addition plus sum total together subtract subtracts subtracted subtraction
minus take away difference less times multiply multiplies multiplied multiplication product divide
divided division remainder quotient equal equals result calculate calculates calculation compute
computes count number numbers digit digits carry borrow ones tens hundreds thousand thousands
hundred
twenty thirty forty fifty sixty seventy eighty ninety eleven twelve thirteen fourteen fifteen
sixteen
seventeen eighteen nineteen zero half double twice triple percent percentage average mean maximum
minimum value values square root power arithmetic maths calculator solve solved work worth
apples apple oranges pears books book pencils pens coins marbles stickers cookies eggs flowers trees
boxes box bags bag shelves shelf rows row children friends friend students teacher class school shop
store market farmer farm garden bus train car cars bicycle bicycles bought buys buy sold sells sell
gave gives given lost loses found finds eats ate shares remaining remain left altogether price euros
dollars cents euro dollar litres kilograms metres kilometres miles hours each has had Anna Tom Maria
Ben Lena Paul Nina Omar Sara Max Ida Leo Mia Noah Emma
"""

SENSORS = """
air quality index particulate matter pollution pollutant ozone nitrogen dioxide carbon monoxide
sulphur pm2.5 pm10 ppm ppb microgram micrograms cubic metre unhealthy moderate hazardous sensitive
healthy mask window windows outdoor indoor ventilate ventilation humidity temperature pressure wind
rain sun cloud clouds snow storm fog weather forecast degrees celsius dry wet cold warm hot dust
smoke fire level levels category concentration reading readings sample samples trend trends rising
falling stable steady change changes anomaly anomalies alarm alarms alert alerts warning normal
abnormal vital vitals signs heart pulse beats bpm blood oxygen saturation spo2 respiratory breathing
breaths systolic diastolic fever body skin patient patients nurse doctor doctors hospital ward
wearable watch wrist triage urgent urgently emergency critical severe mild observe observation
monitor monitors monitoring score risk sleep stress exercise rest pain chest medicine medical advice
ambulance traffic vehicle vehicles lane lanes junction junctions intersection signal signals flow
density occupancy congestion congested jam jams free heavy light queue speed limit kilometres
hour rush route routes detour accident accidents incident parking pedestrian pedestrians cyclists
bridge tunnel highway direction north south east west detector detectors loop camera counts predict
prediction predicted expected state states smart station stations calibrate calibration battery
raw summary mean median deviation window interval sampled noise fault faults stuck drift spike
"""

PLANS = """
step steps name args input inputs output outputs depends needs kind type field fields text string
integer boolean object array list null true false required schema json extract extraction entity
entities intent location quantity unit units from until reason summary summarise summarize translate
compare classify describe fetch query search filter sort group join aggregate generate verify rank
select route assign allocate execute parallel after result results final id key value values source
target begin end goal assistant system user tool tools function functions action actions topic
"""

CONVERSATION = """
goodbye bye morning evening night afternoon nice great fine glad happy sad friend joke story song
poem book music film game sport football politics president election government country capital
language english german french spanish word words sentence sentences letter letters write writes
written read reads speak speaks speech talk talks chat understand understands learn learns learned
remember remembers forget forgets believe feel feels feeling human humans machine robot alive real
intelligence artificial assistant helper helpful able unable cannot don't doesn't isn't can't won't
I'm I'll it's that's what's you're they're we're there's let's didn't aren't wasn't
history science physics chemistry biology mathematics geography art recipe cook food water bread
soup
coffee tea health law legal bank stock stocks tax travel hotel flight plane ticket holiday program
programming function bug website page email letter phone number password account photo picture image
video movie sound voice colour color red green blue yellow black white animal animals cat cats dog
dogs bird birds tree flower sea river mountain moon star stars earth world universe life love
opinion advice news mind honest honestly narrow invent invents guess guesses certain sure perhaps
maybe probably exactly nearly almost roughly simple simply complete completely several enough
example examples important possible impossible available unavailable ready current currently live
itself yourself themselves myself himself herself together alone instead otherwise already yet ever
away back forward around across along behind beside beyond toward towards among except unless
"""

NAMES = """
knowledge.gpt/arithmetic knowledge.gpt/air_quality knowledge.gpt/vitals knowledge.gpt/traffic
knowledge.gpt/weather data.gpt/air_quality/raw data.gpt/air_quality/summary data.gpt/traffic/trend
data.gpt/vitals/summary data.gpt/temperature/raw data.gpt/vitals/processed_embeddings
computation.gpt/generate computation.gpt/embed computation.gpt/aggregate computation.gpt/draft
computation.gpt/verify computation.gpt/task_distribution computation.gpt/cloud
computation.gpt/segment knowledge.gpt/general
"""

JSON_SAMPLES = (
    '{"steps": [{"id": 1, "name": "knowledge.gpt/arithmetic", "input": "48 * 27", "after": []}]}',
    '{"steps":[{"id":"s1","use":"data.gpt/traffic/summary","needs":[]},'
    '{"id":"s2","use":"computation.gpt/aggregate","needs":["s1"]}]}',
    '{"intent": "ask", "domain": "air_quality", "value": 41.5, "unit": "ug/m3", "ok": true}',
    '{"category": "moderate", "reason": null, "confidence": 0.93}',
    '[{"name": "node-7", "role": "user", "content": "hello"}, {"at": "2026-01-31T12:05:00"}]',
)


def tokenizer_corpus() -> Iterator[str]:
    """The texts that the shipped tokenizer was trained on."""
    # (words, how often each stands inside a sentence, bare, and capitalised)
    weights = (
        (COMMON, 30, 15, 15),
        (MESH, 10, 5, 1),
        (ARITHMETIC, 8, 4, 1),
        (SENSORS, 8, 4, 1),
        (PLANS, 8, 4, 1),
        (CONVERSATION, 5, 0, 1),
    )
    for words, inside, bare, capital in weights:
        for word in words.split():
            yield f" {word}" * inside
            yield from [word] * bare
            yield from [word[:1].upper() + word[1:]] * capital
    for name in NAMES.split():
        yield from [f" {name}", name] * 20
    yield from JSON_SAMPLES * 40
    counts = json.loads(Path(__file__).with_name("arithmetic_words.json").read_text())
    for word, count in counts.items():
        yield from [word] * count
