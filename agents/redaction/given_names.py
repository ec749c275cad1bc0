"""Given names common in Europe and the Americas, and some of Asia and Africa, in lower case.

A short list on purpose. Names that are also everyday words (Will, Mark, Grace, Rose, May, Art)
or months, places and brands are left out: they are found by their context alone. A household's
own people belong in the configuration.
"""

_NAMES = """
aaron abdul abigail adam adrian agnes ahmed aisha alan albert alejandro aleksander alex
alexander alexandra alfred alice alicia ali alison amanda amelia amina amy ana andrea andreas
andrew andrzej angela anita anja ann anna anne annette antoine anton antonio anya ariana
arthur arjun astrid barbara beatrice ben benjamin bernd bernard beth birgit bjorn björn bob
brenda brian bridget bruno camille carla carlos carmen carol caroline catherine cecilia
charles charlotte chen chiara chloe chris christian christina christine christoph christopher
claire clara claudia colin connor craig cristina daniel daniela daniele danielle david deborah
denise dennis diana diane diego dieter dmitri dominik donald dorothy douglas edward eleanor
elena elisabeth elizabeth ella ellen elias elke emil emily emma enrique eric erik erika ernst
esther ethan eugene eva evelyn fatima felix ferdinand fernando fiona florian frances francesca
francesco francois françois franz fred frederic freya friedrich fritz gabriel gabriele
gareth gary geert george georg gerald gerard gerhard giovanni giulia giuseppe gordon greta
guillaume gustav hannah hans harold harriet harry hassan heather hector heike heinrich helen
helena helga helmut hendrik henri henry hiroshi holger howard hugo ian ibrahim ines inge
ingrid irene irina isaac isabel isabella ivan jacob jacques jake jakob james jan jane janet
javier jean jeff jeffrey jennifer jens jeremy jessica jim joan joanna joe joel johan johann
johanna johannes john jonas jonathan jorge jose josé josef joseph joshua juan judith julia
julian julie jürgen karen karin karl karl-heinz katarina kate katharina katherine kathleen
kathryn katja keith kelly kenneth kevin kim klaus kristina kurt kwame lars laura laurent lea
lena leo leon leonard leonardo liam lina linda lisa lorenzo louis louise luca lucas lucia
lucy ludwig luigi luis lukas luke maja magdalena manfred manuel marc marcel marco marcus
margaret maria marie marina mario marion marta martha martin martina mary mateusz matteo
matthew matthias maurice max maximilian mehmet mei melissa michael michaela michel miguel
mikhail mila mohamed mohammed monica monika muhammad mustafa nadia nancy naomi natalia
natalie nathan nicholas nicola nicolas nicole nikolai nina noah nora norbert olaf oleg olga
oliver olivia omar oscar otto pablo pamela paolo patricia patrick paul paula pavel pedro
peter petra philip philipp philippe pierre pieter piotr priya rachel rafael rainer raj ralf
ramon raymond rebecca reinhard renate rene rené ricardo richard rita robert roberto rodrigo
roger roland ronald rosa rudolf ruth ryan sabine sally samantha samuel sandra sanjay sara
sarah scott sean sebastian sergei sergio sharon sheila silvia simon simone sofia sofie sonia
sophia sophie stefan stefanie stella stephan stephanie stephen steve steven stuart susan
susanne sven svetlana sylvia tanya teresa theo theodor theresa thomas tim timothy tobias tom
tomas tomasz tony ulrich ulrike ursula valentina valerie vanessa vera veronica victor
victoria viktor vincent virginia vladimir walter wendy werner wilhelm willem william
wolfgang xavier yasmin yuki yusuf yves yvonne zoe
"""
GIVEN = frozenset(_NAMES.split())
