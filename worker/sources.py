"""Where models are: in a folder, in the Hugging Face cache, or on the hub."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

INDEX = "model_index.json"


def index_of(source: str) -> Path:
    """Return the path of a pipeline's model_index.json, fetched from the hub if need be.

    Raises OSError, whose message says in which way the source, a hub id or a path, holds no pipeline.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise OSError(f"the folder {source!r} holds no pipeline (no {INDEX})")
        return folder / INDEX
    try:
        return Path(hf_hub_download(source, INDEX))
    except HFValidationError as error:
        raise OSError(f"there is no folder {source!r}, and it is not a hub id such as 'owner/name'") from error
    except LocalEntryNotFoundError as error:
        raise OSError(f"{source!r} is not in the local Hugging Face cache, and the hub cannot be reached (offline)") from error
    except GatedRepoError as error:
        raise OSError(f"the hub gives {source!r} only to accounts that accepted its terms; set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise OSError(f"the hub has no model {source!r}, or it is private; then set HF_TOKEN") from error
    except RemoteEntryNotFoundError as error:
        raise OSError(f"{source!r} on the hub is not a diffusers pipeline (no {INDEX})") from error
    except HfHubHTTPError as error:
        raise OSError(f"the hub does not give {source!r}: {error}") from error
