"""The plain reader compared with counts made by hand from docs/method.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from headprobe.demo.grammar.reading import Instance, instances, mark_class, read_documents

ROWS = """\
# newdoc id = d
# global.Entity = eid-etype-head-other
# sent_id = d-1
# text = Old Anna Miller didn't nap.
1\tOld\told\tADJ\t_\t_\t2\tamod\t_\tEntity=(e1-person-2-
2\tAnna\tAnna\tPROPN\t_\t_\t6\tnsubj\t_\t_
3\tMiller\tMiller\tPROPN\t_\t_\t2\tflat\t_\tEntity=e1)
4-5\tdidn't\t_\t_\t_\t_\t_\t_\t_\t_
4\tdid\tdo\tAUX\t_\t_\t6\taux\t_\t_
5\tn't\tnot\tPART\t_\t_\t6\tadvmod\t_\t_
6\tnap\tnap\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
7\t.\t.\tPUNCT\t_\t_\t6\tpunct\t_\t_

# sent_id = d-2
# text = Anna hurt her dog; she cried.
1\tAnna\tAnna\tPROPN\t_\t_\t2\tnsubj\t_\tEntity=(e1-person-1-)
2\thurt\thurt\tVERB\t_\t_\t0\troot\t_\t_
3\ther\ther\tPRON\t_\t_\t4\tnmod:poss\t_\tEntity=(e2-animal-2-(e1-person-1-)
4\tdog\tdog\tNOUN\t_\t_\t2\tobj\t_\tEntity=e2)|SpaceAfter=No
5\t;\t;\tPUNCT\t_\t_\t7\tpunct\t_\t_
6\tshe\tshe\tPRON\t_\t_\t7\tnsubj\t_\tEntity=(e1-person-1-)
7\tcried\tcry\tVERB\t_\t_\t2\tparataxis\t_\tSpaceAfter=No
8\t.\t.\tPUNCT\t_\t_\t2\tpunct\t_\t_

"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[Instance]]:
    path: Path = tmp_path_factory.mktemp("reader") / "d.conllu"
    path.write_text(ROWS, "utf-8")
    (document,) = read_documents(path)
    assert all(text == rebuilt for text, rebuilt in document.texts)
    gathered: dict[tuple[str, str], list[Instance]] = {}
    for relation, looks_to, instance in instances(document):
        gathered.setdefault((relation, looks_to), []).append(instance)
    return gathered


def targets(found: list[Instance]) -> dict[int, set[int]]:
    return {instance.query: set(instance.targets) for instance in found}


def test_edges_are_scored_from_the_later_word(
    found: dict[tuple[str, str], list[Instance]],
) -> None:
    assert targets(found["nsubj", "dependent"]) == {5: {1}, 8: {7}, 13: {12}}
    assert targets(found["obj", "head"]) == {10: {8}}
    assert targets(found["parataxis", "head"]) == {13: {8}}
    assert targets(found["nmod", "dependent"]) == {10: {9}}
    assert not any(relation in ("punct", "root") for relation, _ in found)


def test_antecedents_are_all_words_of_all_earlier_mentions(
    found: dict[tuple[str, str], list[Instance]],
) -> None:
    assert targets(found["proper", "antecedent"]) == {7: {0, 1, 2}}
    assert ("proper-strict", "antecedent") not in found
    assert targets(found["pronoun", "antecedent"]) == {9: {0, 1, 2, 7}, 12: {0, 1, 2, 7, 9}}
    assert found["pronoun-strict", "antecedent"][1].form == "her"


def test_targets_of_a_word_are_all_earlier_marks(
    found: dict[tuple[str, str], list[Instance]],
) -> None:
    assert len(found["any", "mark"]) == 8 and len(found["other", "mark"]) == 3
    assert targets(found["stop", "mark"])[14] == {6}
    assert [mark_class(m) for m in ".,“(;–"] == [
        "stop", "comma", "quote", "bracket", "other", "other",
    ]  # fmt: skip
