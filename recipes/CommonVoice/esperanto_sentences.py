"""Esperanto sentences from a small grammar: plain statements, questions and
requests of everyday life, as Common Voice's are, for a synthetic corpus.

A sentence is one template whose slots are filled from word lists. A scene keeps
together nouns, adjectives, verbs and places that make sense with each other, and
`agree` puts the plural and the accusative on every word that must show them. The
vocabulary is small (about 300 stems) on purpose: most words of a test set are then
heard in a training set of a few hundred sentences.
"""

import random
from typing import NamedTuple

MIN_WORDS, MAX_WORDS = 5, 10


def _split(text: str) -> list[str]:
    """Phrases at commas, where there are any, or else words at spaces."""
    return text.split(", ") if "," in text else text.split()


# Slots that are filled from a list, whatever else the sentence says.
_WORDS = {
    "name": "Petro Maria Johano Eva Helena Karlo Aleksandro Ĝorĝo",
    "family": "patro patrino frato fratino avo avino filo filino onklo onklino kuzo "
    "kuzino amiko amikino najbaro",
    "mood": "laca malsana malsata okupita ĝoja malgaja trankvila kolera",
    "pronoun": "mi vi li ŝi ni ili",
    "possessive": "mia via lia ŝia nia ilia",
    "believer": "mi ni Petro Maria Johano Eva",
    "tense": "as is os",
    "past_or_future": "is os",
    "time_as": "hodiaŭ, nun, ofte, ĉiutage, kutime, ĉiun matenon, ĵaŭde, ankoraŭ",
    "time_is": "hieraŭ, antaŭ du tagoj, pasintan semajnon, pasintan ĵaŭdon, "
    "antaŭ unu jaro, dum la nokto",
    "time_os": "morgaŭ, baldaŭ, venontan semajnon, postmorgaŭ, venontan ĵaŭdon, "
    "post unu horo",
    # What needs no object, how and where it is done.
    "rest": "dorm kant danc promen labor ripoz lud rid parol atend sid kur plor",
    "manner": "laŭte ĝoje trankvile longe volonte denove",
    "spot": "en la ĝardeno, en la parko, sur la strato, apud la rivero, antaŭ la "
    "lernejo, ĉe la marbordo, sub la arbo, en la ĉambro, malantaŭ la domo, en la korto",
    "move": "ir vetur vojaĝ reven rapid",
    # A preposition of place takes the accusative for a direction: "en la urbon".
    "direction": "en la urbon, en la ĝardenon, en la arbaron, al la stacidomo, al la "
    "vilaĝo, al la maro, sur la monton, al la preĝejo, al la lernejo, hejmen",
    "vehicle": "buso trajno biciklo aŭto ŝipo tramo",
    "came": "venis revenis telefonis",
    "arrives": "venas venos alvenas alvenos foriras foriros",
    "event": "koncerto kunveno leciono filmo festo ludo kurso vojaĝo",
    "begins": "komenciĝas komenciĝos finiĝas finiĝos",
    "hour": "unua dua tria kvara kvina sesa sepa oka naŭa deka",
    "part": "horo, kaj duono, kaj kvarono",
    "tens": "dek dudek tridek kvardek kvindek sesdek sepdek okdek",
    "weather": "pluv neĝ vent fulm",
    "much": "forte iomete denove longe",
    "region": "en la montaro, ĉe la marbordo, en nia urbo, en la tuta lando, "
    "en la nordo, sur la insulo",
    "home": "vilaĝo urbo domo loĝejo kastelo",
    "homely": "granda malgranda bela malnova nova trankvila ĉarma",
    "nearby": "apud la maro, ĉe la rivero, en la montaro, apud la arbaro, "
    "proksime de la stacidomo, ĉe la limo",
    "wish": "volas, povas, devas, ne povas, deziras, ŝatus, ne volas",
    "believe": "kredas scias esperas pensas diris aŭdis",
    "asking": "ĉu ĉu kial kiam",
    "degree": "tre, sufiĉe, ne tre, vere",
    "give": "donis donos montris montros sendis sendos",
    "there_is": "estas estis troviĝas mankas",
    "wealth": "tempon monon forton",
}
WORDS = {"j": ["", "j"], **{slot: _split(text) for slot, text in _WORDS.items()}}
OWN = {"mi": "mia", "vi": "via", "ni": "nia"}  # the subject's; else it is `sia`
NUMBERS = _split("dek du, du, tri, kvar, kvin, ses, sep, ok, naŭ, dek, dudek")


class Scene(NamedTuple):
    """Nouns and adjectives in the singular nominative, stems of transitive verbs
    that take the nouns as their object, and places as whole phrases."""

    nouns: list[str]
    adjectives: list[str]
    verbs: list[str]
    places: list[str]


# Food, texts, goods, animals, sights, furniture, music and people.
_SCENES = """\
pomo pano fromaĝo supo kuko ĉerizo fiŝo ovo legomo piro bakaĵo
freŝa dolĉa varma malvarma granda malgranda bongusta
manĝ aĉet prepar gustum alport vend
en la kuirejo, ĉe la tablo, sur la bazaro, en la restoracio

libro letero artikolo poemo rakonto ĵurnalo vortaro mesaĝo
longa mallonga interesa nova malnova grava
leg skrib traduk montr ricev send
en la biblioteko, en la lernejo, ĉe la fenestro, en la oficejo

ĉapelo ĉemizo jako ŝuo robo ringo horloĝo ombrelo ŝlosilo sako
bela nova malnova blua ruĝa verda blanka nigra multekosta
aĉet serĉ trov perd forges vend montr
en la butiko, en la urbo, ĉe la stacidomo, en la hotelo

hundo kato ĉevalo birdo ŝafo bovino papilio kuniklo
juna bela malgranda granda blanka nigra rapida sovaĝa
vid rigard serĉ aŭd desegn fot
en la arbaro, sur la kampo, apud la rivero, sub la arbo

domo ponto preĝejo ŝipo kastelo muzeo monumento konstruaĵo
alta granda malgranda fama malnova nova bela
vid fot vizit pentr admir
en la urbo, apud la maro, trans la rivero, ĉe la placo

seĝo tablo lito ŝranko pordo fenestro lampo
larĝa peza malpura nova malnova blanka verda
purig ripar farb aĉet mov
en la ĉambro, en la kuirejo, en la salono, en la oficejo

kanto ĥoro koncerto orkestro melodio violono
bela laŭta trankvila nova malnova fama
aŭskult aŭd am admir
en la preĝejo, en la teatro, en la parko, en la lernejo

instruisto kuracisto lernanto kantisto ĝardenisto ŝoforo vendisto ĵurnalisto laboristo \
kuiristo verkisto gasto reĝo maristo pentristo ĉasisto studento policisto bakisto \
kamparano knabo knabino monaĥo ĥirurgo
juna maljuna afabla kuraĝa feliĉa diligenta saĝa ĝentila riĉa malriĉa
salut renkont help invit aŭskult dank vok
sur la strato, en la urbo, ĉe la pordo, en la hotelo"""
SCENES = [Scene(*map(_split, scene.splitlines())) for scene in _SCENES.split("\n\n")]
OWNED, PEOPLE = SCENES[:3], SCENES[-1]  # somebody can own and give the first three

# Sentences that are not yet capitalised, and how often each is drawn.
TEMPLATES = {
    "{time} {who} {verb}{tense} {thing}.": 3,
    "{who} {verb}{tense} {thing} {place}.": 3,
    "{who} {manner} {rest}{tense} {spot}.": 2,
    "{pronoun} {wish} {verb}i {thing} {time_os}.": 2,
    "{asking} {who} {verb}{past_or_future} {thing}?": 2,
    "{asking} {who} {verb}{past_or_future} {thing} {place}?": 2,
    "{pronoun} ne {verb}is {thing}, ĉar {pronoun} estis {mood}{pronoun_j}.": 2,
    "la {noun}{j} {place} estas {degree} {adjective}{j}.": 2,
    "{possessive} {noun} estas pli {adjective} ol la {other_noun}.": 2,
    "{who} {give} {gift} al {receiver}.": 2,
    "{who} {move}{tense} {direction} per {vehicle}.": 1,
    "{who} {move}{tense} {direction} {time}.": 1,
    "{believer} {believe}, ke {pronoun} {verb}{past_or_future} {thing}.": 2,
    "kiam {who} {came}, {someone} {rest}is {spot}.": 2,
    "bonvolu {verb}i {thing} {place}.": 1,
    "ne {verb}u {thing}, mi petas.": 1,
    "{place} {there_is} {several}.": 2,
    "se {pronoun} havus {wealth}, {pronoun} {verb}us {thing}.": 2,
    "{who} loĝas en {homely} {home} {nearby}.": 2,
    "{time} {much} {weather}{tense} {region}.": 2,
    "{possessive} {family} havas {tens} jarojn kaj loĝas {nearby}.": 2,
    "la {event} {begins} je la {hour} {part}.": 1,
    "la {vehicle} {arrives} je la {hour} {part}.": 1,
}


def agree(word: str, plural: bool, accusative: bool) -> str:
    """Puts the endings of number and case on a noun or an adjective.

    Example
    -------
    >>> agree("ruĝa", True, True), agree("ĉapelo", False, True)
    ('ruĝajn', 'ĉapelon')
    """
    return word + "j" * plural + "n" * accusative


def noun_phrase(
    rng: random.Random,
    noun: str,
    adjectives: list[str],
    determiners: list[str],
    accusative: bool = False,
) -> str:
    """Draws determiner, number and perhaps an adjective for a noun.

    A determiner is `la`, a number, "", or a word that agrees (`mia`, `tiu`).

    Example
    -------
    >>> noun_phrase(random.Random(2), "pomo", ["freŝa"], ["tri"], True)
    'tri freŝajn pomojn'
    """
    determiner = rng.choice(determiners)
    plural = determiner in NUMBERS or rng.random() < 0.3
    if determiner not in ("", "la", *NUMBERS):
        determiner = agree(determiner, plural, accusative)
    words = [rng.choice(adjectives), noun] if rng.random() < 0.5 else [noun]
    phrase = " ".join(agree(word, plural, accusative) for word in words)
    return f"{determiner} {phrase}".strip()


class _Slots(dict):
    """What one sentence says in its slots, each drawn when first asked for."""

    def __init__(self, rng: random.Random):
        super().__init__()
        self.rng = rng

    def __missing__(self, slot: str) -> str | Scene:
        if slot in WORDS:
            self[slot] = self.rng.choice(WORDS[slot])
        elif f"{slot}s" in Scene._fields:
            self[slot] = self.rng.choice(getattr(self["scene"], f"{slot}s"))
        else:
            self[slot] = getattr(self, f"_{slot}")()
        return self[slot]

    def _scene(self) -> Scene:
        return self.rng.choice(SCENES)

    def _time(self) -> str:
        return self[f"time_{self['tense']}"]

    def _pronoun_j(self) -> str:
        return "j" if self["pronoun"] in ("ni", "ili") else ""

    def _who(self) -> str:
        kind = self.rng.choice(["name", "family", "family", "person", "pronoun"])
        return f"{self['possessive']} {self[kind]}" if kind == "family" else self[kind]

    def _someone(self) -> str:
        return self._other_than_who("who")

    def _receiver(self) -> str:
        return self._other_than_who(self.rng.choice(["name", "person"]))

    def _other_than_who(self, kind: str) -> str:
        other = self["who"]
        while other == self["who"]:
            other = _Slots(self.rng)[kind]
        return other

    def _person(self) -> str:
        noun, determiners = self.rng.choice(PEOPLE.nouns), ["la", "la", "la", "tiu"]
        return noun_phrase(self.rng, noun, PEOPLE.adjectives, determiners)

    def _other_noun(self) -> str:
        return self.rng.choice([n for n in self["scene"].nouns if n != self["noun"]])

    def _several(self) -> str:
        return noun_phrase(self.rng, self["noun"], self["scene"].adjectives, NUMBERS)

    def _thing(self) -> str:
        """A direct object; `sia` and its like need a subject that came before."""
        determiners = ["la", "la", "la", "tiu", "", self.rng.choice(NUMBERS)]
        if self["scene"] in OWNED and ("who" in self or "pronoun" in self):
            determiners += 2 * [OWN.get(self.get("pronoun"), "sia")]
        adjectives = self["scene"].adjectives
        return noun_phrase(self.rng, self["noun"], adjectives, determiners, True)

    def _gift(self) -> str:
        self["scene"] = self.rng.choice(OWNED)
        return self["thing"]


def esperanto_sentences(count: int, rng: random.Random) -> list[str]:
    """Draws distinct Esperanto sentences of 5 to 10 words.

    Arguments
    ---------
    count: int
        How many sentences.
    rng: random.Random
        The source of every choice: the same state gives the same sentences.

    Returns
    -------
    list of str
        The sentences, capitalised and with their final punctuation.

    Raises
    ------
    ValueError
        If the grammar does not yield that many distinct sentences.

    Example
    -------
    >>> sentences = esperanto_sentences(3, random.Random(1986))
    >>> len(set(sentences))
    3
    """
    # A dict keeps the order of the draws, which a set would not.
    sentences: dict[str, None] = {}
    for _ in range(100 + 20 * count):
        if len(sentences) >= count:
            break
        (template,) = rng.choices(list(TEMPLATES), list(TEMPLATES.values()))
        sentence = template.format_map(_Slots(rng))
        if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
            sentences[sentence[0].upper() + sentence[1:]] = None
    if len(sentences) < count:
        raise ValueError(
            f"{count} distinct sentences were asked for, but the grammar gave "
            f"only {len(sentences)}. Ask for fewer."
        )
    return list(sentences)
