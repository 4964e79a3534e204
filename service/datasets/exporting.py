"""A data set as a tar of the files that other people's tools read, while it is read from the store: any size, in bounded memory.

All of this is synchronous, since writing an export is work for a processor; Starlette runs it in a thread.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Literal

import obstore

from contracts.schema.datasets import DatasetRecord, DatasetState, Entry, FilledClass, KeptMasks
from contracts.schema.errors import Code, ServiceError, service_error
from contracts.schema.targets import TokenTarget
from contracts.state import keys
from contracts.state.store import ArtifactStore, in_our_words
from ovam.core.coco import decode_run_lengths
from ovam.core.export import (
    FORMS,
    Annotation,
    Coco,
    Datasheet,
    File,
    Form,
    FormName,
    HuggingFace,
    Labelme,
    Sample,
    Split,
    Voc,
    WebDataset,
    as_tar,
    export,
)
from ovam.errors import OvamError
from service.datasets.files import segments_of

READ_AHEAD = 32  # images
READERS = 8

Rest = Literal["0", "255"]
"""The label of what is no class, in forms with label maps: background, or unsure."""
Outlines = Literal["rle", "polygons"]

EXPORTABLE = (DatasetState.SUCCEEDED, DatasetState.CANCELED, DatasetState.PAUSED, DatasetState.FAILED)


def exported(
    store: ArtifactStore, record: DatasetRecord, unsealed: tuple[int, Mapping[int, str]], form: Form, split: Split
) -> Iterator[bytes]:
    """The tar, piece by piece. ServiceError as `exported_files`."""
    return as_tar(exported_files(store, record, unsealed, form, split))


def exported_files(
    store: ArtifactStore, record: DatasetRecord, unsealed: tuple[int, Mapping[int, str]], form: Form, split: Split
) -> Iterator[File]:
    """The files, one at a time; `unsealed`: how many segments are in the store, and the entries that are not.

    ServiceError (job-not-finished) while the data set is worked on, and for what the form does not allow.
    """
    if record.state not in EXPORTABLE:
        detail = f"data set {record.id} is {record.state}; wait until it is done, or pause it to export what there is"
        raise ServiceError(Code.JOB_NOT_FINISHED, detail, field="dataset_id", value=record.id, retry_after=5)
    numbers = {each.name: each.label for each in record.request.classes}
    entries = chosen(store, record, *unsealed)
    first = next(entries, None)
    found = samples(store, record, entries if first is None else chain([first], entries))
    about = datasheet(record, first.weights if first else "")
    try:
        return export(found, form, numbers, split=split, about=about, lenient=True)
    except OvamError as error:
        raise service_error(error, field="format") from error


def into_store(files: Iterable[File], target: ArtifactStore) -> int:
    """Write files to an empty place; returns how many. It is whole once its last file, the datasheet, is there.

    ServiceError (invalid-argument) where something is already.
    """
    with in_our_words():
        if any(chunk for chunk in obstore.list(target.store, chunk_size=1)):
            raise ServiceError(Code.INVALID_ARGUMENT, "the place to export to holds something; allowed: an empty one", field="to")
    count = 0
    for file in files:
        with in_our_words():
            obstore.put(target.store, file.path, file.content if isinstance(file.content, bytes) else file.chunks())
        count += 1
    return count


def form_of(name: FormName, rest: Rest | None, outlines: Outlines | None) -> Form:
    """A form with the settings that were given; those that it does not have change nothing."""
    unlabelled: Literal[0, 255] = 255 if rest == "255" else 0
    match name:
        case "coco":
            return Coco(outlines=outlines or "rle")
        case "labelme":
            return Labelme(shapes="mask" if outlines == "rle" else "polygon")
        case "voc":
            return Voc(rest=unlabelled)
        case "webdataset":
            return WebDataset(rest=unlabelled)
        case "huggingface":
            return HuggingFace(rest=unlabelled)
        case _:
            return FORMS[name]


def chosen(store: ArtifactStore, record: DatasetRecord, sealed: int, unsealed: Mapping[int, str]) -> Iterator[Entry]:
    """The accepted entries, in their order: in the end, or so far."""
    final = record.state is DatasetState.SUCCEEDED
    for segment in range(segments_of(record) if final else sealed):
        for line in read(store, keys.dataset_entries(record.id, segment, final=final)).split(b"\n"):
            if line and (entry := Entry.model_validate_json(line)).state == "accepted":
                yield entry
    for number in () if final else sorted(unsealed):
        if (entry := Entry.model_validate_json(unsealed[number])).state == "accepted":
            yield entry


def samples(store: ArtifactStore, record: DatasetRecord, entries: Iterable[Entry]) -> Iterator[Sample]:
    """Each entry with its image and masks, read some images ahead."""
    with ThreadPoolExecutor(READERS) as readers:
        reading = deque()
        for entry in entries:
            reading.append(readers.submit(partial(sample, store, record, entry)))
            if len(reading) >= READ_AHEAD:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()


def sample(store: ArtifactStore, record: DatasetRecord, entry: Entry) -> Sample:
    """An entry with its image and its masks. An image that is gone is empty, and left out of the export."""
    kept = KeptMasks.model_validate_json(read(store, keys.dataset_masks(record.id, entry.number)) or b'{"masks": {}}')
    found = {name: entry.found.get(name) for name in kept.masks}
    return Sample(
        name=entry.custom_id,
        image=read(store, keys.dataset_image(record.id, entry.number)),
        annotations=[
            Annotation(
                name,
                decode_run_lengths({"size": [*rle.size], "counts": rle.counts}),
                facts.score if facts else None,
                facts.confidence.value if facts and facts.confidence else None,
            )
            for (name, rle), facts in zip(kept.masks.items(), found.values(), strict=True)
        ],
        prompt=entry.prompt,
        seed=entry.seed,
        metadata={"number": entry.number, **({"clip": clip} if (clip := clips(entry)) else {})},
    )


def clips(entry: Entry) -> dict[str, float]:
    """What CLIP says of each class, where it was asked."""
    return {name: found.clip for name, found in entry.found.items() if found.clip is not None}


def read(store: ArtifactStore, key: str) -> bytes:
    """An object; nothing if it is gone."""
    with in_our_words():
        try:
            return bytes(obstore.get(store.store, key).bytes())
        except FileNotFoundError:
            return b""


def datasheet(record: DatasetRecord, weights: str) -> Datasheet:
    """How the data set was made, by a model of these weights."""
    job, counts = record.request, record.counts
    made = f"{counts.entries} images from {job.prompts} prompts; {counts.accepted} accepted, {counts.failed} failed."
    return Datasheet(
        title=job.name or f"Data set {record.id}",
        description=made if counts.done == counts.entries else f"Not complete: {counts.done} of {made}",
        model=job.generation.model or "",
        model_hash=weights,
        adapters={each.name: each.scale for each in job.generation.adapters},
        method={"name": job.method, **asdict(job.settings)},
        tokens={each.name: sought(each) for each in job.classes},
        filters=job.filters.model_dump(mode="json", exclude_none=True),
        rejected=counts.rejected,
    )


def sought(each: FilledClass) -> str:
    """What a class is looked for by."""
    target = each.target
    return target.token if isinstance(target, TokenTarget) else target.word or target.prompt or each.name
