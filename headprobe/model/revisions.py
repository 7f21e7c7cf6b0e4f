"""The revisions of a model on the Hub: listing them, and removing them from the cache again."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from huggingface_hub import HfApi, constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from headprobe.errors import HeadprobeError
from headprobe.format import suggest_names
from headprobe.model.hub import hub_is_reachable
from headprobe.model.load_errors import friendly_load_errors, unreachable


@dataclass(frozen=True)
class Revision:
    """A branch or tag of a model on the Hub."""

    name: str
    commit: str


def list_revisions(model: str, pattern: str) -> Sequence[Revision]:
    """Return the branches and tags of ``model`` whose names match a shell ``pattern``.

    Raises HeadprobeError where the Hub cannot be reached, has no such model, or no name matches.
    """
    if not hub_is_reachable():
        raise unreachable(model)
    with friendly_load_errors(model, "its revisions cannot be listed"):
        refs = HfApi().list_repo_refs(model)
    known = {ref.name: ref.target_commit for ref in (*refs.branches, *refs.tags)}
    found = [Revision(name, known[name]) for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise HeadprobeError(
            f"--revisions {pattern!r}",
            f"{model} has no branch or tag that matches",
            suggest_names(pattern, known),
        )
    return found


def cached_commits(model: str) -> set[str]:
    """Return the commits of ``model`` of which the cache has any file."""
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return set()
    return {
        revision.commit_hash
        for repository in cache.repos
        if (repository.repo_type, repository.repo_id) == ("model", model)
        for revision in repository.revisions
    }


def remove_commit(model: str, commit: str) -> None:
    """Remove the files of one commit from the cache, but those that other commits share."""
    if commit in cached_commits(model):
        scan_cache_dir(constants.HF_HUB_CACHE).delete_revisions(commit).execute()
