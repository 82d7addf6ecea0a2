"""A name -> whether the hub has a model of it, and the model's files: asked once, without retries, without torch."""

from importlib import import_module
from pathlib import Path

from completions_lp.records import InputError, describe_cause

UNKNOWN = (401, 404)
"""How the hub answers for a name that it does not know: 401 to those who are not logged in."""


def ask_hub(name: str, revision: str | None) -> bool:
    """Whether the hub can be asked for a model's files; where it cannot, there is a copy in its cache.

    One request, which is not tried again; none where ``HF_HUB_OFFLINE`` is set.

    Raises:
        InputError: The hub has no such model or revision, or it cannot be reached and the cache has no copy.
    """
    from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url, try_to_load_from_cache
    from huggingface_hub import errors as hub

    named = f"model {name[:200]!r}" + ("" if revision is None else f" at revision {revision[:80]!r}")
    try:
        url = hf_hub_url(name, "config.json", revision=revision)
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except hub.HFValidationError:
        raise InputError(f"{named}: no such folder, and no name that a model of the hub can have") from None
    except hub.EntryNotFoundError:
        return True  # it is there; what it lacks is told when it is read
    except hub.GatedRepoError:
        raise InputError(f"{named} is gated: ask for access on the hub, and log in with `hf auth login`") from None
    except hub.RevisionNotFoundError:
        raise InputError(f"{named}: the hub has the model, but no such branch, tag or commit") from None
    except (hub.HfHubHTTPError, OSError, _find_client_error(get_session())) as error:
        if getattr(getattr(error, "response", None), "status_code", None) in UNKNOWN:
            raise InputError(
                f"{named}: no such folder, and the hub has no model of this name, or it is private (then log in with "
                "`hf auth login`)"
            ) from None
        if not isinstance(try_to_load_from_cache(name, "config.json", revision=revision), str):
            raise InputError(
                f"{named}: no such folder, the hub's cache has no copy, and the hub cannot be asked: "
                f"{describe_cause(error)}"
            ) from None
        return False
    return True


def fetch_file(name: str, file: str, revision: str | None, *, online: bool) -> Path | None:
    """The local path of a file of a model, fetched where ``online`` and it is not in the cache; None if it has none."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=not online))
    except LocalEntryNotFoundError:
        if online:  # the hub answered a moment ago
            raise
    except EntryNotFoundError:
        pass
    return None


def _find_client_error(session: object) -> type[Exception]:
    """What the hub's client raises where nobody answers: of the library that it is built on, which has changed once."""
    client = next(kind for kind in type(session).__mro__ if kind.__name__ == "Client")
    error: type[Exception] = import_module(client.__module__.partition(".")[0]).HTTPError
    return error
