"""Where things are: the names of Redis keys and of objects in the artifact store."""

JOBS = "ovam:jobs"  # sorted set, every score 0: job ids, whose order is that of creation
QUEUED = "ovam:queued"  # sorted set: ids of jobs that no worker has claimed, by time of creation (ms); 0 if handed back
MODELS = "ovam:models"  # hash: model name -> ModelCard
TOKENIZERS = "ovam:tokenizers"  # hash: model name -> tokenizer.json
TOKENS = "ovam:tokens"  # hash: token name -> number of its newest version ever
COUNTS = "ovam:counts"  # hash: "<kind>:<final state or submitted>" -> how many jobs ever
FAILURES = "ovam:failures"  # hash: "<kind>:<code>" -> how many jobs ever failed with it
INVENTORY = "ovam:inventory"  # string with a short life: what the artifact store holds, as JSON (bytes, objects)
DOCKET = "ovam"  # the docket of long jobs; see `docket_of`
INTERACTIVE = "ovam-interactive"  # the docket of jobs that a person waits for
DOCKETS = (DOCKET, INTERACTIVE)  # workers take jobs from each, and run any kind of job from any of them
LANES = {DOCKET: "long", INTERACTIVE: "short"}  # what metrics call the dockets
TOKEN_FILES = {  # a token in every downloadable format
    "safetensors": "token.safetensors",
    "textual-inversion": "textual-inversion.safetensors",
    "npy": "token.npy",
}
TASK = "run_job"  # every docket's one task; its argument, and the execution's key, is a job id


def docket_of(kind: str) -> str:
    """The docket for a kind of job: a docket is first in, first out, so short jobs have one of their own."""
    return INTERACTIVE if kind in ("attribute", "probe", "import") else DOCKET


def waiting(lane: str) -> str:
    """Sorted set: the part of QUEUED that is for a docket."""
    return f"{QUEUED}:{lane}"


def queues(kind: str) -> tuple[str, str]:
    """The sorted sets in which a job is until a worker claims it."""
    return QUEUED, waiting(docket_of(kind))


def job(job_id: str) -> str:
    """String: the JobRecord."""
    return f"ovam:job:{job_id}"


def events(job_id: str) -> str:
    """Stream: what happened to the job."""
    return f"ovam:events:{job_id}"


def idempotency(key: str) -> str:
    """Hash: the fingerprint of a request, the job it created, and until when (ms) its first answer is awaited."""
    return f"ovam:idempotency:{key}"


def worker(name: str) -> str:
    """String with a short life: a worker's heartbeat, as JSON (name, device, models, since, numbers)."""
    return f"ovam:worker:{name}"


def attempt_folder(job_id: str, attempt: int) -> str:
    """Objects of one attempt at a job."""
    return f"jobs/{job_id}/{attempt}"


def job_folder(job_id: str) -> str:
    """Objects of a job."""
    return f"jobs/{job_id}"


def trace(image: int) -> str:
    """The name of an image's trace among its job's artifacts."""
    return f"trace-{image}.safetensors"


def token(name: str) -> str:
    """Hash: version -> TokenFacts of the token of a name."""
    return f"ovam:token:{name}"


def token_id(job_id: str, attempt: int, number: int = 0) -> str:
    """The id of the n-th token of an attempt at a job: no attempt can touch another's files."""
    return f"{job_id}-{attempt}-{number}"


def token_folder(token_id: str) -> str:
    """Objects of a token; its id never changes, its name may."""
    return f"tokens/{token_id}"


def token_object(token_id: str, form: str) -> str:
    """Object: a token's rows, background first, as a file of a form."""
    return f"{token_folder(token_id)}/{TOKEN_FILES[form]}"


def upload(job_id: str) -> str:
    """Object: the image that came with a job's request, as it came."""
    return f"jobs/{job_id}/upload"


def text(value: bytes | str) -> str:
    """What Redis answered, as text."""
    return value.decode() if isinstance(value, bytes) else value
