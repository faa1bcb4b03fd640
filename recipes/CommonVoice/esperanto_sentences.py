"""Esperanto sentences from a small grammar: plain statements, questions and
requests of everyday life, as Common Voice's are, for a synthetic corpus.

A sentence is one template filled from word lists. A scene keeps together the
nouns, adjectives, verbs and places that make sense with each other, and
`agree` puts the plural and the accusative on every word that must show them.
The vocabulary is kept small (about 300 stems) on purpose: most words of a test
set are then heard in a training set of a few hundred sentences.
"""

import random
from typing import NamedTuple

MIN_WORDS = 5
MAX_WORDS = 10

NAMES = "Petro Maria Johano Eva Helena Karlo Aleksandro Ĝorĝo".split()
FAMILY = (
    "patro patrino frato fratino avo avino filo filino onklo onklino "
    "kuzo kuzino amiko amikino najbaro"
).split()
PROFESSIONS = (
    "instruisto kuracisto lernanto kantisto ĝardenisto ŝoforo vendisto "
    "ĵurnalisto laboristo kuiristo verkisto gasto reĝo maristo pentristo "
    "ĉasisto studento policisto bakisto kamparano knabo knabino monaĥo ĥirurgo"
).split()
PERSON_ADJECTIVES = (
    "juna maljuna afabla kuraĝa feliĉa diligenta saĝa ĝentila riĉa malriĉa"
).split()
MOODS = "laca malsana malsata okupita ĝoja malgaja trankvila kolera".split()

PRONOUNS = "mi vi li ŝi ni ili".split()
PLURAL_PRONOUNS = ("ni", "ili")
POSSESSIVES = "mia via lia ŝia nia ilia".split()
# The possessive that points back to the subject: `sia` for a third person.
OWN = {"mi": "mia", "vi": "via", "ni": "nia"}

NUMBERS = ["dek du", *"du tri kvar kvin ses sep ok naŭ dek dudek".split()]
ORDINALS = "unua dua tria kvara kvina sesa sepa oka naŭa deka".split()
UNITS = ["", *"unu du tri kvar kvin ses sep ok naŭ".split()]
TENS = "dek dudek tridek kvardek kvindek sesdek sepdek okdek".split()

TIMES = {
    "as": ["hodiaŭ", "nun", "ofte", "ĉiutage", "kutime", "ĉiun matenon",
           "ĵaŭde", "ankoraŭ"],
    "is": ["hieraŭ", "antaŭ du tagoj", "pasintan semajnon", "pasintan ĵaŭdon",
           "antaŭ unu jaro", "dum la nokto"],
    "os": ["morgaŭ", "baldaŭ", "venontan semajnon", "postmorgaŭ",
           "venontan ĵaŭdon", "post unu horo"],
}  # fmt: skip

STILL_VERBS = (
    "dorm kant danc promen labor ripoz lud rid parol atend sid kur plor"
).split()
MANNERS = "laŭte ĝoje trankvile longe volonte denove".split()
STILL_PLACES = [
    "en la ĝardeno", "en la parko", "sur la strato", "apud la rivero",
    "antaŭ la lernejo", "ĉe la marbordo", "sub la arbo", "en la ĉambro",
    "malantaŭ la domo", "en la korto",
]  # fmt: skip

# "en la urbon": a preposition of place takes the accusative for a direction.
DIRECTIONS = [
    "en la urbon", "en la ĝardenon", "en la arbaron", "al la stacidomo",
    "al la vilaĝo", "al la maro", "sur la monton", "al la preĝejo",
    "al la lernejo", "hejmen",
]  # fmt: skip
MOTION_VERBS = "ir vetur vojaĝ reven rapid".split()
VEHICLES = "buso trajno biciklo aŭto ŝipo tramo".split()

WEATHER_VERBS = "pluv neĝ vent fulm".split()
WEATHER_PLACES = [
    "en la montaro", "ĉe la marbordo", "en nia urbo", "en la tuta lando",
    "en la nordo", "sur la insulo",
]  # fmt: skip

EVENTS = "koncerto kunveno leciono filmo festo ludo kurso vojaĝo".split()
EVENT_VERBS = "komenciĝ finiĝ".split()
ARRIVAL_VERBS = "ven alven forir".split()

HOMES = "vilaĝo urbo domo loĝejo kastelo".split()
HOME_ADJECTIVES = (
    "granda malgranda bela malnova nova trankvila ĉarma"
).split()
HOME_PLACES = [
    "apud la maro", "ĉe la rivero", "en la montaro", "apud la arbaro",
    "proksime de la stacidomo", "ĉe la limo",
]  # fmt: skip

WISHES = ["volas", "povas", "devas", "ne povas", "deziras", "ŝatus", "ne volas"]
BELIEFS = ["kredas", "scias", "esperas", "pensas", "diris", "aŭdis"]


class Scene(NamedTuple):
    """Things, what they are like, what is done with them, and where.

    Arguments
    ---------
    nouns: list of str
        Things, in the singular nominative.
    adjectives: list of str
        What the things can be like, in the singular nominative.
    verbs: list of str
        Stems of transitive verbs that take the things as their object.
    places: list of str
        Prepositional phrases.
    owned: bool
        Whether somebody can be said to own the things.
    """

    nouns: list[str]
    adjectives: list[str]
    verbs: list[str]
    places: list[str]
    owned: bool


FOOD = Scene(
    "pomo pano fromaĝo supo kuko ĉerizo fiŝo ovo legomo piro bakaĵo".split(),
    "freŝa dolĉa varma malvarma granda malgranda bongusta".split(),
    "manĝ aĉet prepar gustum alport vend".split(),
    ["en la kuirejo", "ĉe la tablo", "sur la bazaro", "en la restoracio"],
    True,
)
TEXTS = Scene(
    "libro letero artikolo poemo rakonto ĵurnalo vortaro mesaĝo".split(),
    "longa mallonga interesa nova malnova grava".split(),
    "leg skrib traduk montr ricev send".split(),
    ["en la biblioteko", "en la lernejo", "ĉe la fenestro", "en la oficejo"],
    True,
)
GOODS = Scene(
    "ĉapelo ĉemizo jako ŝuo robo ringo horloĝo ombrelo ŝlosilo sako".split(),
    "bela nova malnova blua ruĝa verda blanka nigra multekosta".split(),
    "aĉet serĉ trov perd forges vend montr".split(),
    ["en la butiko", "en la urbo", "ĉe la stacidomo", "en la hotelo"],
    True,
)
ANIMALS = Scene(
    "hundo kato ĉevalo birdo ŝafo bovino papilio kuniklo".split(),
    "juna bela malgranda granda blanka nigra rapida sovaĝa".split(),
    "vid rigard serĉ aŭd desegn fot".split(),
    ["en la arbaro", "sur la kampo", "apud la rivero", "sub la arbo"],
    False,
)
SIGHTS = Scene(
    "domo ponto preĝejo ŝipo kastelo muzeo monumento konstruaĵo".split(),
    "alta granda malgranda fama malnova nova bela".split(),
    "vid fot vizit pentr admir".split(),
    ["en la urbo", "apud la maro", "trans la rivero", "ĉe la placo"],
    False,
)
FURNITURE = Scene(
    "seĝo tablo lito ŝranko pordo fenestro lampo".split(),
    "larĝa peza malpura nova malnova blanka verda".split(),
    "purig ripar farb aĉet mov".split(),
    ["en la ĉambro", "en la kuirejo", "en la salono", "en la oficejo"],
    False,
)
MUSIC = Scene(
    "kanto ĥoro koncerto orkestro melodio violono".split(),
    "bela laŭta trankvila nova malnova fama".split(),
    "aŭskult aŭd am admir".split(),
    ["en la preĝejo", "en la teatro", "en la parko", "en la lernejo"],
    False,
)
PEOPLE = Scene(
    PROFESSIONS,
    PERSON_ADJECTIVES,
    "salut renkont help invit aŭskult dank vok".split(),
    ["sur la strato", "en la urbo", "ĉe la pordo", "en la hotelo"],
    False,
)
THINGS = [FOOD, TEXTS, GOODS, ANIMALS, SIGHTS, FURNITURE, MUSIC]
SCENES = [*THINGS, PEOPLE]


def agree(word: str, plural: bool, accusative: bool) -> str:
    """Puts the endings of number and case on a noun or an adjective.

    Arguments
    ---------
    word: str
        The singular nominative.
    plural: bool
        Whether to add -j.
    accusative: bool
        Whether to add -n.

    Returns
    -------
    str
        The inflected word.

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

    Arguments
    ---------
    rng: random.Random
        The source of the choices.
    noun: str
        The noun, in the singular nominative.
    adjectives: list of str
        The adjectives to draw from; an empty list for none.
    determiners: list of str
        The determiners to draw from: `la`, a number, an empty string, or a
        word that agrees with the noun (`mia`, `tiu`).
    accusative: bool
        Whether the phrase is a direct object.

    Returns
    -------
    str
        The phrase, all its words in agreement.

    Example
    -------
    >>> noun_phrase(random.Random(2), "pomo", ["freŝa"], ["tri"], True)
    'tri freŝajn pomojn'
    """
    determiner = rng.choice(determiners)
    plural = determiner in NUMBERS or rng.random() < 0.3
    if determiner not in ("", "la", *NUMBERS):
        determiner = agree(determiner, plural, accusative)
    words = [noun]
    if adjectives and rng.random() < 0.5:
        words.insert(0, rng.choice(adjectives))
    phrase = " ".join(agree(word, plural, accusative) for word in words)
    return f"{determiner} {phrase}".strip()


def subject(rng: random.Random) -> tuple[str, str]:
    """Draws who acts.

    Arguments
    ---------
    rng: random.Random
        The source of the choices.

    Returns
    -------
    tuple of str
        The phrase, and the possessive that points back to it.
    """
    kind = rng.choice(["name", "family", "family", "profession", "pronoun"])
    if kind == "name":
        return rng.choice(NAMES), "sia"
    if kind == "family":
        return f"{rng.choice(POSSESSIVES)} {rng.choice(FAMILY)}", "sia"
    if kind == "profession":
        return person(rng), "sia"
    pronoun = rng.choice(PRONOUNS)
    return pronoun, OWN.get(pronoun, "sia")


def person(rng: random.Random) -> str:
    """Draws a person by profession, such as `tiuj junaj verkistoj`.

    Arguments
    ---------
    rng: random.Random
        The source of the choices.

    Returns
    -------
    str
        The phrase in the nominative.
    """
    noun = rng.choice(PROFESSIONS)
    return noun_phrase(rng, noun, PERSON_ADJECTIVES, ["la", "la", "la", "tiu"])


def thing(rng: random.Random, scene: Scene, own: str = "") -> str:
    """Draws a direct object.

    Arguments
    ---------
    rng: random.Random
        The source of the choices.
    scene: Scene
        Where the object comes from.
    own: str
        The possessive that points back to who acts, as `subject` gives it.

    Returns
    -------
    str
        The phrase in the accusative.
    """
    determiners = ["la", "la", "la", "tiu", "", rng.choice(NUMBERS)]
    if own and scene.owned:
        determiners += [own, own]
    noun = rng.choice(scene.nouns)
    return noun_phrase(rng, noun, scene.adjectives, determiners, True)


# One function a template. Each gives a sentence that is not yet capitalised.


def _action(rng: random.Random) -> str:
    scene, tense = rng.choice(SCENES), rng.choice(["as", "is", "os"])
    who, own = subject(rng)
    core = f"{who} {rng.choice(scene.verbs)}{tense} {thing(rng, scene, own)}"
    if rng.random() < 0.5:
        return f"{rng.choice(TIMES[tense])} {core}."
    return f"{core} {rng.choice(scene.places)}."


def _still(rng: random.Random) -> str:
    tense = rng.choice(["as", "is", "os"])
    verb, place = rng.choice(STILL_VERBS), rng.choice(STILL_PLACES)
    return f"{subject(rng)[0]} {rng.choice(MANNERS)} {verb}{tense} {place}."


def _wish(rng: random.Random) -> str:
    scene, pronoun = rng.choice(SCENES), rng.choice(PRONOUNS)
    what = thing(rng, scene, OWN.get(pronoun, "sia"))
    verb, when = rng.choice(scene.verbs), rng.choice(TIMES["os"])
    return f"{pronoun} {rng.choice(WISHES)} {verb}i {what} {when}."


def _question(rng: random.Random) -> str:
    scene, word = rng.choice(SCENES), rng.choice(["ĉu", "ĉu", "kial", "kiam"])
    tense = rng.choice(["is", "os"])
    who, own = subject(rng)
    core = f"{rng.choice(scene.verbs)}{tense} {thing(rng, scene, own)}"
    where = f" {rng.choice(scene.places)}" if rng.random() < 0.4 else ""
    return f"{word} {who} {core}{where}?"


def _reason(rng: random.Random) -> str:
    scene, pronoun = rng.choice(SCENES), rng.choice(PRONOUNS)
    what = thing(rng, scene, OWN.get(pronoun, "sia"))
    mood = agree(rng.choice(MOODS), pronoun in PLURAL_PRONOUNS, False)
    verb = rng.choice(scene.verbs)
    return f"{pronoun} ne {verb}is {what}, ĉar {pronoun} estis {mood}."


def _quality(rng: random.Random) -> str:
    scene, plural = rng.choice(THINGS), rng.random() < 0.5
    noun = agree(rng.choice(scene.nouns), plural, False)
    adjective = agree(rng.choice(scene.adjectives), plural, False)
    degree = rng.choice(["tre", "sufiĉe", "ne tre", "vere"])
    return f"la {noun} {rng.choice(scene.places)} estas {degree} {adjective}."


def _comparison(rng: random.Random) -> str:
    scene = rng.choice(THINGS)
    first, second = rng.sample(scene.nouns, 2)
    whose, adjective = rng.choice(POSSESSIVES), rng.choice(scene.adjectives)
    return f"{whose} {first} estas pli {adjective} ol la {second}."


def _gift(rng: random.Random) -> str:
    scene, tense = rng.choice([FOOD, TEXTS, GOODS]), rng.choice(["is", "os"])
    who, own = subject(rng)
    verb = rng.choice("don montr send".split())
    to = rng.choice([person(rng), rng.choice(NAMES)])
    return f"{who} {verb}{tense} {thing(rng, scene, own)} al {to}."


def _motion(rng: random.Random) -> str:
    tense = rng.choice(["as", "is", "os"])
    verb, where = rng.choice(MOTION_VERBS), rng.choice(DIRECTIONS)
    how = rng.choice([f"per {rng.choice(VEHICLES)}", rng.choice(TIMES[tense])])
    return f"{subject(rng)[0]} {verb}{tense} {where} {how}."


def _belief(rng: random.Random) -> str:
    scene, pronoun = rng.choice(SCENES), rng.choice(PRONOUNS)
    believer = rng.choice(["mi", "ni", rng.choice(NAMES)])
    what = thing(rng, scene, OWN.get(pronoun, "sia"))
    verb = rng.choice(scene.verbs) + rng.choice(["is", "os"])
    return f"{believer} {rng.choice(BELIEFS)}, ke {pronoun} {verb} {what}."


def _when(rng: random.Random) -> str:
    came = rng.choice("ven reven telefon".split())
    verb, place = rng.choice(STILL_VERBS), rng.choice(STILL_PLACES)
    first, second = subject(rng)[0], subject(rng)[0]
    return f"kiam {first} {came}is, {second} {verb}is {place}."


def _request(rng: random.Random) -> str:
    scene = rng.choice(SCENES)
    verb, what = rng.choice(scene.verbs), thing(rng, scene)
    if rng.random() < 0.5:
        return f"bonvolu {verb}i {what} {rng.choice(scene.places)}."
    return f"ne {verb}u {what}, mi petas."


def _presence(rng: random.Random) -> str:
    scene = rng.choice(THINGS)
    numbers = [rng.choice(NUMBERS)]
    noun = rng.choice(scene.nouns)
    what = noun_phrase(rng, noun, scene.adjectives, numbers)
    verb = rng.choice(["estas", "estis", "troviĝas", "mankas"])
    return f"{rng.choice(scene.places)} {verb} {what}."


def _condition(rng: random.Random) -> str:
    scene, pronoun = rng.choice(SCENES), rng.choice(PRONOUNS)
    what = thing(rng, scene, OWN.get(pronoun, "sia"))
    wealth = rng.choice(["tempon", "monon", "forton"])
    verb = rng.choice(scene.verbs)
    return f"se {pronoun} havus {wealth}, {pronoun} {verb}us {what}."


def _home(rng: random.Random) -> str:
    home = f"{rng.choice(HOME_ADJECTIVES)} {rng.choice(HOMES)}"
    return f"{subject(rng)[0]} loĝas en {home} {rng.choice(HOME_PLACES)}."


def _weather(rng: random.Random) -> str:
    tense = rng.choice(["as", "is", "os"])
    verb, place = rng.choice(WEATHER_VERBS), rng.choice(WEATHER_PLACES)
    degree = rng.choice(["forte", "iomete", "denove", "longe"])
    return f"{rng.choice(TIMES[tense])} {degree} {verb}{tense} {place}."


def _age(rng: random.Random) -> str:
    years = f"{rng.choice(TENS)} {rng.choice(UNITS)}".strip()
    who = f"{rng.choice(POSSESSIVES)} {rng.choice(FAMILY)}"
    rest = f"loĝas {rng.choice(HOME_PLACES)}"
    return f"{who} havas {years} jarojn kaj {rest}."


def _clock(rng: random.Random) -> str:
    tense = rng.choice(["as", "os"])
    part = rng.choice(["horo", "kaj duono", "kaj kvarono"])
    what = f"{rng.choice(EVENTS)} {rng.choice(EVENT_VERBS)}{tense}"
    if rng.random() < 0.5:
        what = f"{rng.choice(VEHICLES)} {rng.choice(ARRIVAL_VERBS)}{tense}"
    return f"la {what} je la {rng.choice(ORDINALS)} {part}."


# A template that stands here several times is drawn more often.
TEMPLATES = [
    _action, _action, _action, _still, _wish, _question, _question, _reason,
    _quality, _comparison, _gift, _motion, _belief, _when, _request,
    _presence, _condition, _home, _weather, _age, _clock,
]  # fmt: skip


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
        sentence = rng.choice(TEMPLATES)(rng)
        if MIN_WORDS <= len(sentence.split()) <= MAX_WORDS:
            sentences[sentence[0].upper() + sentence[1:]] = None
    if len(sentences) < count:
        raise ValueError(
            f"{count} distinct sentences were asked for, but the grammar gave "
            f"only {len(sentences)}. Ask for fewer."
        )
    return list(sentences)
