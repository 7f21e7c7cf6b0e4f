"""Which files a name means, and that every document has an id of its own."""

import hashlib

import pytest

from headprobe.errors import HeadprobeError
from headprobe.probes import catalog as builtin
from headprobe.probes.catalog import READERS, find_probe_files, read_documents
from headprobe.probes.file import ProbeFile

ROW = "1 | a | _ | X | _ | _ | 0 | root | _ | _\n"


@pytest.fixture(autouse=True)
def builtin_sets(tmp_path, monkeypatch):
    folder = tmp_path / "configs" / "probes"
    folder.mkdir(parents=True)
    (folder / "pronouns.yaml").write_text("- text: a\n")
    (folder / "README.md").write_text("no set")
    monkeypatch.setattr(builtin, "configs_folder", lambda: tmp_path / "configs")


def test_configs_are_in_the_source_tree(monkeypatch):
    monkeypatch.undo()
    assert (builtin.configs_folder() / "roles.yaml").is_file()


def test_probes_can_be_named_by_set_file_or_folder(write, tmp_path):
    write(ROW, "bank/b.CONLLU")
    write(ROW, "bank/sub/a.conllu")
    write("- text: a", "bank/c.yml")
    write("notes", "bank/LICENSE.txt")
    write(ROW, "bank/.hidden/x.conllu")
    write("{}", "bank/x.json")
    assert [file.name for file in find_probe_files(["pronouns"])] == ["pronouns"]
    assert [file.name for file in find_probe_files([])] == ["pronouns"]
    folder = find_probe_files([str(tmp_path / "bank")])
    assert [file.name for file in folder] == ["b.CONLLU", "c.yml", "sub/a.conllu"]
    one = str(tmp_path / "bank" / "c.yml")
    twice = find_probe_files([one, one, str(tmp_path / "bank")])
    assert [file.name for file in twice] == ["c.yml", "b.CONLLU", "sub/a.conllu"]


def test_plain_text_counts_only_without_annotated_files(write, tmp_path):
    write("Hello.", "plain/a.txt")
    assert [file.name for file in find_probe_files([str(tmp_path / "plain")])] == ["a.txt"]
    assert [file.name for file in find_probe_files([str(tmp_path / "plain" / "a.txt")])] == [
        "a.txt"
    ]


def test_texts_of_a_folder_share_a_domain(write, tmp_path, notes):
    for path in ("books/a.txt", "books/b.txt", "books/verse/old/c.txt"):
        write("Hello.", path)
    folder = find_probe_files([str(tmp_path / "books")])
    assert [d.domain for d in read_documents(folder, notes.append)] == [
        "books", "books", "verse/old",
    ]  # fmt: skip
    alone = find_probe_files([str(tmp_path / "books" / "a.txt")])
    assert [d.domain for d in read_documents(alone, notes.append)] == ["a"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("xyz", "Choose from pronouns."),
        ("a.conlu", "Did you mean a.conllu?"),
        ("bank/x", "Choose from b.conllu, deep."),
    ],
)
def test_files_are_suggested_if_similar_or_in_the_named_folder(tmp_path, monkeypatch, name, remedy):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank" / "deep").mkdir(parents=True)
    for path in ("notes.md", "a.conllu", "bank/b.conllu", "bank/notes.md", "bank/deep/c.txt"):
        (tmp_path / path).touch()
    with pytest.raises(HeadprobeError) as error:
        find_probe_files([name])
    assert str(error.value).endswith(remedy)


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("pronuons", "neither a built-in set nor a file", "Did you mean pronouns?"),
        ("{}/bank/a.conlu", "neither a built-in set nor a file", "Did you mean a.conllu?"),
        ("", "neither a built-in set nor a file", "pronouns"),
        ("x" * 5000, "cannot be read", "Check the path"),
        ("{}/nowhere/a", "neither a built-in set nor a file", "pronouns"),
        ("{}/bank/x.json", "no reader for '.json'", ".conllu"),
        ("{}/bank/README", "no reader for a file without a suffix", ".conllu"),
        ("{}/empty", "holds no probe file", ".conllu"),
    ],
)
def test_unknown_probe_names_are_an_error(
    write, tmp_path, name, what, remedy, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "current").mkdir()
    monkeypatch.chdir(tmp_path / "current")  # files there are suggested as well
    for path in ("bank/a.conllu", "bank/x.json", "bank/README"):
        write(ROW, path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeadprobeError) as caught:
        find_probe_files([name.format(tmp_path)])
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_folders_without_probes_are_not_suggested(tmp_path, monkeypatch):
    (tmp_path / "treebanks" / "english").mkdir(parents=True)
    (tmp_path / "treebank-notes").mkdir()
    (tmp_path / "treebanks" / "english" / "a.conllu").write_text("")
    (tmp_path / "treebank-notes" / "read.me").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeadprobeError) as caught:
        find_probe_files(["treebank-note"])
    assert caught.value.remedy == "Did you mean treebanks?"


def test_repeated_document_ids_get_numbers_and_keep_their_cluster(write, notes):
    first = write(f"# newdoc id = d\n{ROW}\n# newdoc id = d~2\n{ROW}", "a.conllu")
    second = write(f"# newdoc id = d\n{ROW}\n# newdoc id = d\n{ROW}", "b.conllu")
    found = [(d.id, d.cluster) for d in read_documents([first, second], notes.append)]
    assert found == [("d", "d"), ("d~2", "d~2"), ("d~3", "d"), ("d~4", "d")]


@pytest.mark.parametrize("name", ["a.conllu", "a.txt"])
def test_a_file_without_sentences_is_refused(write, notes, name):
    with pytest.raises(HeadprobeError, match="holds no sentence"):
        list(read_documents([write("\n", name)], notes.append))


def test_a_reader_can_be_added(write, notes, monkeypatch):
    monkeypatch.setitem(READERS, ".json", READERS[".txt"])
    file = write("Hello.", "a.json")
    assert [d.id for d in read_documents(find_probe_files([str(file.path)]), notes.append)] == [
        "a.json"
    ]


def test_a_probe_file_has_hash_and_size_and_may_be_missing(write):
    file = write(b"abc", "a.txt")
    assert file.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert file.size == 3
    gone = ProbeFile(file.path.with_name("gone.txt"), "gone.txt")
    for read_it in (lambda: gone.sha256, lambda: gone.size, lambda: list(gone.lines())):
        with pytest.raises(HeadprobeError, match="cannot be read"):
            read_it()


def test_a_folder_cannot_be_read_as_a_file(tmp_path):
    with pytest.raises(HeadprobeError, match="cannot be read"):
        list(ProbeFile(tmp_path, "x.conllu").lines())
