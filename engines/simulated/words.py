"""Plain English words by their part in a sentence: what simulated answers are made of."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split())


OPENERS = _split("The A Every One This That Each Another Some No")
STARTS = _split("When While Because After Before Although Since If Until Once")
DETERMINERS = _split("the a every one this that each another some its their our his her")
ADJECTIVES = _split(
    """small large old young quiet early late long short heavy light warm cold dark bright narrow
    wide deep high low simple careful common public private local national modern ancient empty
    full open closed broken steady sudden gentle rough honest strange familiar useful difficult
    easy rich poor strong weak clean dry wet new second final first northern southern distant
    nearby patient busy calm proud"""
)
NOUNS = _split(
    """farmer teacher engineer doctor sailor child woman man neighbour student judge captain
    painter writer clerk baker river road bridge house garden field village city harbour market
    school mill tower church library hospital station ship boat train wagon horse dog bird tree
    forest mountain valley island winter summer morning evening night year week hour letter book
    report story question answer record law price tax vote council army king border treaty stone
    wood iron water fire bread grain salt coal window door wall table lamp clock map engine wire
    bell rope plan promise reason mistake habit journey lesson meeting decision measure number
    result method machine theory experiment sample instrument distance weight temperature
    pressure signal cost profit debt wage trade"""
)
VERBS = _split(
    """saw found kept left took gave made built sold bought carried followed watched opened closed
    crossed reached passed repaired measured counted described explained remembered forgot
    wanted needed asked answered accepted refused changed improved copied tested studied
    collected divided joined moved lifted painted cleaned paid praised blamed trusted visited
    questioned mentioned noticed considered preferred"""
)
PREPOSITIONS = _split(
    "of in on near behind under over beside before after with without from against through by"
)
ADVERBS = _split(
    """slowly quickly quietly again often never always once twice soon later early carefully badly
    well together alone simply nearly almost finally usually rarely gladly"""
)
JOINERS = _split("and but so yet while because although until")
FILLERS = _split("again too now then there here still once and so on up in it at to of a the is as by or")

SENTENCES = (
    "O A N V D N P D N .",
    "O N V D A N , J D N V D N .",
    "S D N V D N , D A N V D N P D N .",
    "O N P D A N V R .",
    "O A N R V D N P D N , J D N R V D N .",
    "S D A N V R , D N V D N .",
    "O N V D N , D N , and D A N .",
    "O N who V D N R V D A N P D N .",
    "O A N and D N V D N J D N V D A N .",
    "O N P D N V D N P D A N .",
)
"""O opener, S subordinator, D determiner, A adjective, N noun, V verb, P preposition, R adverb, J joiner."""

PARTS = {
    "O": OPENERS,
    "S": STARTS,
    "D": DETERMINERS,
    "A": ADJECTIVES,
    "N": NOUNS,
    "V": VERBS,
    "P": PREPOSITIONS,
    "R": ADVERBS,
    "J": JOINERS,
}
