"""The bundled probe sets: sentences of our own, with the gold structure they were built from.

One bracket notation serves both sources. `natural_sentences.txt` holds sentences written by hand;
`stories.txt`, `news.txt` and `dialogues.txt` hold passage plans whose slots are filled from
`lexicon.yaml`. Either way the brackets *are* the dependency tree and the mentions, so words
and annotation cannot drift apart. See `notation.py` for the notation, `plans.py` for the
plans, `pairs.py` for the minimal pairs.
"""
