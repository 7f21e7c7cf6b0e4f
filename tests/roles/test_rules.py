"""Rules files: what they override, and the errors of malformed ones."""

from pathlib import Path

import pytest
import yaml

from headprobe.errors import HeadprobeError
from headprobe.resources import configs_folder
from headprobe.roles.rules import RoleRule, load_rules


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return written


def test_the_packaged_rules_have_the_documented_thresholds() -> None:
    rules = load_rules()
    assert (rules.margin, rules.min_n, rules.min_mass, rules.max_q) == (0.10, 50, 0.05, 0.05)
    assert (rules.min_forms, rules.min_form_folds, rules.mixed) == (3, 10, 0.20)
    assert (rules.min_lift, rules.min_share_gain) == (1.25, 0.05)
    assert rules.idle.output_norm == 0.30
    assert (rules.repeater.within_group, rules.repeater.min_groups) == (0.95, 8)
    assert rules.sinks.weight == 0.30
    assert rules.roles["coreference"] == RoleRule("coreference", strict=True, beats="category")
    assert rules.roles["punctuation"].norm_above_habit and not rules.roles["syntax"].strict
    assert rules.positional.explained == 0.90
    assert (configs_folder() / "roles.yaml").is_file()


def test_a_rules_file_overrides_single_values(write) -> None:
    mine = load_rules(write("margin: 0.2\nidle:\n  output_norm: 0.1\n"))
    assert (mine.margin, mine.idle.output_norm, mine.min_n) == (0.2, 0.1, 50)
    assert mine.idle.residual_share == load_rules().idle.residual_share


def test_a_rules_file_can_define_a_role(write) -> None:
    mine = load_rules(write("roles: {denier: {family: negation}}"))
    assert mine.roles["denier"] == RoleRule("negation") and "syntax" in mine.roles
    mine = load_rules(write("roles: {negation: {family: user, relation: negation}}"))
    assert mine.roles["negation"] == RoleRule("user", "negation")


def test_rules_of_earlier_versions_take_the_packaged_causal_rules(tmp_path: Path) -> None:
    """The file of a run names all rules that its version had."""
    load_rules().save(tmp_path / "now.yaml")
    values = yaml.safe_load((tmp_path / "now.yaml").read_text("utf-8"))
    assert values.pop("causal")["max_harm"] == 0.01
    (tmp_path / "then.yaml").write_text(yaml.safe_dump(values | {"margin": 0.2}), "utf-8")
    then = load_rules(tmp_path / "then.yaml")
    assert then.margin == 0.2 and then.causal == load_rules().causal


def test_changed_lists_the_differences_from_other_rules(write) -> None:
    base = load_rules()
    assert load_rules(write("margin: 0.1")).changed(base) == []
    mine = load_rules(write("margin: 0.2\nidle: {output_norm: 1}\nroles: {me: {family: user}}"))
    assert sorted(mine.changed(base)) == ["idle.output_norm: 1", "margin: 0.2", "roles.me"]
    assert "roles.me" in base.changed(mine)


def test_the_hash_depends_on_values_only(write) -> None:
    default = load_rules().sha256
    assert load_rules(write("# nothing new\nmargin: 0.10\n")).sha256 == default
    assert load_rules(write("min_form_folds: 10.0")).sha256 == default
    assert load_rules(write("margin: 0.11")).sha256 != default
    assert load_rules(write("roles: {denier: {family: negation}}")).sha256 != default


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margn: 0.1", r"unknown rule 'margn'\. Did you mean margin or min_share_gain\?$"),
        ("idle: {output_nrm: 1}", r"unknown rule 'idle.output_nrm'\. Did you mean output_norm"),
        ("roles: {denier: {famly: x}}", r"'roles.denier.famly'\. Did you mean family"),
        ("roles: {denier: {strict: true}}", "'roles.denier.family' is missing"),
        ("roles: {mixed: {family: x}}", "role 'mixed' cannot be defined"),
        ("roles: {positional: {family: x}}", "role 'positional' cannot be defined"),
        ("roles: {induction: {family: x}}", "role 'induction' cannot be defined"),
        ("roles: {duplicate-token: {family: x}}", "role 'duplicate-token' cannot be defined"),
        (
            "roles: {syntax: {beats: length}}",
            "'roles.syntax.beats' is 'length'. Give 'distance'",
        ),
        ("roles: {syntax: {beats: []}}", r"'roles.syntax.beats' is a list. Give 'distance' or"),
        ("roles: {syntax: {relation: 3}}", "'roles.syntax.relation' is 3. Give text"),
        ("positional: {min_rows: 0.5}", "'positional.min_rows' is 0.5. Give a whole number"),
        ("copying: {marign: 1}", r"'copying.marign'\. Did you mean margin"),
        ("unnamed: 1", "'unnamed' is not a group of rules"),
        ("roles: {3: {family: x}}", "role 3 cannot be defined"),
        ("roles: {'a;b': {family: x}}", "role 'a;b' is not a valid name. Use up to 40 letters"),
        ("roles: {'': {family: x}}", "role '' is not a valid name"),
        ("roles: {'=cmd(1)': {family: x}}", "is not a valid name"),
        ("roles: {denier: negation}", "'denier' is not a group of rules"),
        ("idle: 0.3", "'idle' is not a group of rules"),
        ("min_n: 2.5", "'min_n' is 2.5. Give a whole number"),
        ("min_n: true", "'min_n' is True"),
        ("margin: lots", "'margin' is 'lots'. Give a number"),
        ("margin: .nan", "'margin' is nan"),
        ("margin:", "'margin' is None"),
        ("max_q: -1", "'max_q' is -1"),
        ("power: 1", "'power' is 1. Give a number between 0 and 1"),
        ("causal: {max_p: 0}", "'causal.max_p' is 0. Give a number between 0 and 1"),
        ("causal: {max_hram: 0}", r"'causal.max_hram'\. Did you mean max_harm"),
        ("confidence: 95", "'confidence' is 95. Give a number between 0 and 1"),
        ("roles: {syntax: {strict: 1}}", "'roles.syntax.strict' is 1. Give true or false"),
        ("- 1", "has no rules"),
        ("", "has no rules"),
        ("a: [1", r"mine.yaml:1: not YAML"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_a_malformed_rules_file_is_a_one_line_error(write, text: str | bytes, message: str) -> None:
    with pytest.raises(HeadprobeError, match=message) as raised:
        load_rules(write(text))
    assert "\n" not in str(raised.value) and "mine.yaml" in str(raised.value)


def test_a_missing_rules_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HeadprobeError, match=r"nowhere\.yaml: cannot be read \(No such file"):
        load_rules(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("margin: 0.2\nmin_n: 9\nmargin: 0.1\n", 3, "margin"),
        ("idle:\n  output_norm: 0.1\n  'output_norm': 0.2\n", 3, "output_norm"),
        ("roles:\n  mine: {family: user, relation: a,\n    relation: b}\n", 3, "relation"),
        ("idle:\n  output_norm: 0.1\nroles: {}\nidle: {}\n", 4, "idle"),
    ],
)
def test_a_repeated_rule_is_an_error(write, text, line, key) -> None:
    path = write(text)
    with pytest.raises(HeadprobeError) as caught:
        load_rules(path)
    assert str(caught.value) == f"{path}:{line}: '{key}' occurs twice. Keep one of them."
