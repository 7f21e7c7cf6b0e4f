"""The sentences of tales, by kind of fact: ``{S}`` is whoever it is told of."""

TOLD = {
    "habits": (
        "the one who always {habit} was {S}.",
        "every evening somebody {habit}, and it was {S}.",
        "there was somebody who {habit} all day long: {S}.",
        "{S} often {habit}.",
        "{S} {habit} every morning.",
    ),
    "foods": (
        '"I would like some {food}," said {S}.',
        "nobody liked {food} as much as {S}.",
        "the {food} on the table was for {S}.",
        "{S} wanted nothing but {food}.",
        "{S} loved {food}.",
    ),
    "places": (
        "out of the {place} came {S}.",
        "near the {place} lived {S}.",
        "{S} lived in the {place}.",
        "{S} came from the {place}.",
    ),
    "traits": (
        "how {trait} {was} {S}!",
        "nobody in the village was as {trait} as {S}.",
        '"I am so {trait}," said {S}.',
        "{S} {was} very {trait}.",
    ),
    "own": (
        "the {own} belonged to {S}.",
        "{a_own} was all that was given to {S}.",
        '"This {own} is mine," said {S}.',
        "{S} had {a_own}.",
    ),
}
"""By kind of fact; the last patterns may begin with a pronoun."""

SPOKEN = {
    "habits": ("{S} {habit} as before.", "{S} {habit} again."),
    "foods": ("somebody gave {acc} {food}.", "{gen} {food} is nearly ready."),
    "places": ("{gen} {place} is far away.", "{S} went home to the {place}."),
    "traits": ("{S} am still {trait}.", "nobody has seen {acc} so {trait}."),
    "own": ("{gen} {own} was lost.", "somebody has hidden {gen} {own}.", "{S} need {gen} {own}."),
}

AGAIN = {
    "habits": ("{S} {habit} again.", "{S} {habit} as before.", "{S} {habit} and {habit}."),
    "foods": (
        "somebody gave {acc} {food}.",
        "somebody brought {acc} {food}.",
        "the cook made {acc} {food}.",
        "{gen} {food} was nearly ready.",
    ),
    "places": (
        "{S} went home to the {place}.",
        "{gen} {place} was far away.",
        "there was nobody but {acc} in the {place}.",
        "{S} ran back to the {place}.",
    ),
    "traits": (
        "{S} {was} still {trait}.",
        "nobody had seen {acc} so {trait}.",
        "{S} felt {trait}.",
    ),
    "own": (
        "{gen} {own} was lost.",
        "{S} looked for {gen} {own}.",
        "everybody admired {gen} {own}.",
        "somebody had hidden {gen} {own} under the bed.",
        "{S} held {gen} {own} and smiled.",
    ),
    "name": (
        "people called {acc} {name}.",
        "everybody called {acc} {name}.",
        '"I am {name}," {nom} said.',
        "{gen} name was {name}.",
        "people shouted for {acc}: {name}!",
        "and {nom}, {name}, was glad.",
    ),
}
