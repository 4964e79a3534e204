"""Where things are: the names of Redis keys and of objects in the artifact store.

What belongs to a tenant has the tenant in its name; without API keys there is one tenant, whose name is empty.
"""

from datetime import date

JOBS = "ovam:jobs"  # sorted set, every score 0: job ids, whose order is that of creation
QUEUED = "ovam:queued"  # sorted set: ids of jobs that no worker has claimed, by time of creation (ms); 0 if handed back
MODELS = "ovam:models"  # hash: model name -> ModelCard
TOKENIZERS = "ovam:tokenizers"  # hash: model name -> tokenizer.json
TOKENS = "ovam:tokens"  # hash: token name -> number of its newest version ever
KEYS = "ovam:keys"  # hash: digest of an API key -> KeyCard
KEY_NAMES = "ovam:key-names"  # hash: name of an API key -> its digest
USED = "ovam:used"  # sorted set: ids of jobs that keep files, by the time of their last use (ms); infinity: being collected
SIZES = "ovam:sizes"  # hash: job id -> bytes of its files
BYTES_STORED = "ovam:bytes-stored"  # string: the sum of those bytes
COUNTS = "ovam:counts"  # hash: "<kind>:<final state or submitted>" -> how many jobs ever
PACES = "ovam:paces"  # hash with a life: "<kind>:<model>" -> seconds that a unit of such work took lately
DEADLINES = "ovam:deadlines"  # sorted set: ids of jobs that are not final, by the time (ms) when they are canceled
OUTBOX = "ovam:outbox"  # sorted set: ids of deliveries of webhooks, by when they are due (ms)
FAILED_DELIVERIES = "ovam:failed-deliveries"  # sorted set: ids of those that were given up, by when (s); the newest thousand
WEBHOOK_SECRETS = "ovam:webhook-secrets"  # hash: tenant -> the secret that its deliveries are signed with
RATES = "ovam:rates"  # hash: "<docket>:seconds" -> seconds between two claims while jobs wait, ":at" -> the last one (s)
DEAD = "ovam:dead"  # sorted set: ids of jobs that were given up, by when (s); the newest thousand
FAILURES = "ovam:failures"  # hash: "<kind>:<code>" -> how many jobs ever failed with it
DATASETS = "ovam:datasets"  # sorted set, every score 0: ids of data sets, whose order is that of creation
DATASETS_DUE = (
    "ovam:datasets-due"  # sorted set: ids of data sets that are not final nor paused, by when (ms) a gateway may drive them
)
INVENTORY = "ovam:inventory"  # string with a short life: what the artifact store holds, as JSON (bytes, objects)
DOCKET = "ovam"  # the docket of normal jobs; see `docket_of`
INTERACTIVE = "ovam-interactive"  # the docket of short jobs that a person waits for
URGENT = "ovam-urgent"  # the docket of long jobs that a person waits for
BULK = "ovam-bulk"  # the docket of jobs that wait until there are no others
DOCKETS = (INTERACTIVE, URGENT, DOCKET, BULK)  # workers take jobs from each, and run any kind of job from any of them
LANES = {INTERACTIVE: "interactive", URGENT: "urgent", DOCKET: "normal", BULK: "bulk"}  # what metrics call the dockets
SHORT_KINDS = ("attribute", "probe", "import")
TOKEN_FILES = {  # a token in every downloadable format
    "safetensors": "token.safetensors",
    "textual-inversion": "textual-inversion.safetensors",
    "npy": "token.npy",
}
TASK = "run_job"  # every docket's one task; it has no arguments, and the execution's key is a job id


def docket_of(kind: str, priority: str | None = None) -> str:
    """The docket for a kind of job, by default of the kind's own priority.

    A docket is first in, first out, so each priority has its own, and short jobs need not wait for a worker's long ones.
    """
    short = kind in SHORT_KINDS
    match priority or ("interactive" if short else "normal"):
        case "bulk":
            return BULK
        case "normal":
            return DOCKET
        case _:
            return INTERACTIVE if short else URGENT


def of(tenant: str, name: str) -> str:
    """A tenant's own JOBS, TOKENS or DATASETS."""
    return f"{name}:{tenant}" if tenant else name


def waiting(lane: str, tenant: str = "") -> str:
    """Sorted set: the part of QUEUED that is for a docket, or that part of a tenant's."""
    return of(tenant, f"{QUEUED}:{lane}")


def queues(kind: str, tenant: str, priority: str | None = None) -> set[str]:
    """The sorted sets in which a job is until a worker claims it."""
    lane = docket_of(kind, priority)
    return {QUEUED, waiting(lane), waiting(lane, tenant)}


def listings(tenant: str) -> set[str]:
    """The sorted sets in which a job of a tenant may be, of whatever kind it is."""
    return {of(tenant, JOBS), QUEUED, *(waiting(lane, whose) for lane in DOCKETS for whose in ("", tenant))}


def rate(digest: str) -> str:
    """String with a short life: when (ms) an API key has all of its requests again."""
    return f"ovam:rate:{digest}"


def device_seconds(tenant: str, day: date) -> str:
    """String: how many seconds a tenant's jobs ran on a day of UTC."""
    return f"ovam:device-seconds:{tenant}:{day}"


def kept(tenant: str) -> str:
    """Sorted set: `job id:bytes` of a tenant's jobs that keep files, by the time when they expire (ms)."""
    return f"ovam:kept:{tenant}"


def bytes_kept(tenant: str) -> str:
    """String: the sum of those bytes."""
    return f"ovam:bytes-kept:{tenant}"


def job(job_id: str) -> str:
    """String: the JobRecord."""
    return f"ovam:job:{job_id}"


def events(job_id: str) -> str:
    """Stream: what happened to the job."""
    return f"ovam:events:{job_id}"


def dataset(dataset_id: str) -> str:
    """Hash: a data set's record as it was filed, its state, its counts, and how far its outcomes are in the store."""
    return f"ovam:dataset:{dataset_id}"


def dataset_once(key: str, tenant: str = "") -> str:
    """String: the fingerprint of a request for a data set, and the id of that, by an idempotency key."""
    return f"ovam:dataset-once:{tenant}:{key}"


def dataset_open(dataset_id: str) -> str:
    """Hash: number of an image -> its Entry, until the segment that it belongs to is in the store."""
    return f"ovam:dataset-open:{dataset_id}"


def wake(gateway: str) -> str:
    """Stream with a short life: by an entry a gateway interrupts its own read of events."""
    return f"ovam:wake:{gateway}"


def idempotency(key: str, tenant: str = "") -> str:
    """Hash: the fingerprint of a request, the job it created, and until when (ms) its first answer is awaited."""
    return f"ovam:idempotency:{tenant}:{key}"


def worker(name: str) -> str:
    """String with a short life: a worker's heartbeat, a Heartbeat."""
    return f"ovam:worker:{name}"


def run(holder: str) -> str:
    """String with a short life: the Heartbeat of a run of a worker."""
    return f"ovam:run:{holder}"


def holder(job_id: str) -> str:
    """String: which run of a worker claimed the job last; `on_device` tells what that run was doing."""
    return f"ovam:holder:{job_id}"


def on_device(holder: str) -> str:
    """String: the id of the job that is on the device of a run of a worker; empty while there is none."""
    return f"ovam:on-device:{holder}"


def delivery(delivery_id: str) -> str:
    """String with a life of days: a Delivery."""
    return f"ovam:delivery:{delivery_id}"


def secret_before(tenant: str) -> str:
    """String with a life of a day: a tenant's secret for webhooks before it got a new one."""
    return f"ovam:webhook-secret-before:{tenant}"


def attempt_folder(job_id: str, attempt: int) -> str:
    """Objects of one attempt at a job."""
    return f"jobs/{job_id}/{attempt}"


def job_folder(job_id: str) -> str:
    """Objects of a job."""
    return f"jobs/{job_id}"


def trace(image: int) -> str:
    """The name of an image's trace among its job's artifacts."""
    return f"trace-{image}.safetensors"


def replay(image: int) -> str:
    """The name of an image's replay among its job's artifacts."""
    return f"replay-{image}.safetensors"


def token(name: str, tenant: str = "") -> str:
    """Hash: version -> TokenFacts of the token of a name."""
    return f"{of(tenant, 'ovam:token')}:{name}"


def token_id(job_id: str, attempt: int, number: int = 0) -> str:
    """The id of the n-th token of an attempt at a job: no attempt can touch another's files."""
    return f"{job_id}-{attempt}-{number}"


def token_folder(token_id: str) -> str:
    """Objects of a token; its id never changes, its name may."""
    return f"tokens/{token_id}"


def token_object(token_id: str, form: str) -> str:
    """Object: a token's rows, background first, as a file of a form."""
    return f"{token_folder(token_id)}/{TOKEN_FILES[form]}"


def corrections(token: str, tenant: str = "") -> str:
    """Hash with a life of weeks: annotation -> its Correction, from which a token is learned."""
    return f"ovam:corrections:{tenant}:{token}"


def annotator(project: str, tenant: str = "") -> str:
    """String with a life of weeks: where the Label Studio of a project is, and by which token it gives files, as JSON."""
    return f"ovam:annotator:{tenant}:{project}"


def request(job_id: str) -> str:
    """Object: a job's request, filled in, that is too large for its record."""
    return f"jobs/{job_id}/request"


def result(job_id: str, attempt: int) -> str:
    """Object: the result of an attempt that is too large for its job's record."""
    return f"{attempt_folder(job_id, attempt)}/result"


def upload(job_id: str, field: str = "image") -> str:
    """Object: an image that came with a job's request in this field, as it came."""
    return f"jobs/{job_id}/upload" if field == "image" else f"jobs/{job_id}/upload-{field.replace('.', '-')}"


def dataset_folder(dataset_id: str) -> str:
    """Objects of a data set."""
    return f"datasets/{dataset_id}"


def dataset_prompts(dataset_id: str, segment: int) -> str:
    """Object: some of a data set's prompts, a DatasetPrompt in each line."""
    return f"{dataset_folder(dataset_id)}/prompts/{segment:06d}.jsonl"


def dataset_entries(dataset_id: str, segment: int, *, final: bool = False) -> str:
    """Object: what became of some of its images, an Entry in each line; `final` once they were compared to all others."""
    return f"{dataset_folder(dataset_id)}/{'final' if final else 'entries'}/{segment:06d}.jsonl"


def dataset_image(dataset_id: str, number: int) -> str:
    """Object: one of a data set's images."""
    return f"{dataset_folder(dataset_id)}/images/{number:06d}.png"


def dataset_masks(dataset_id: str, number: int) -> str:
    """Object: the masks of an image, KeptMasks."""
    return f"{dataset_folder(dataset_id)}/masks/{number:06d}.json"


def text(value: bytes | str) -> str:
    """What Redis answered, as text."""
    return value.decode() if isinstance(value, bytes) else value
