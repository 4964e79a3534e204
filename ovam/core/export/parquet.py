"""Hugging Face datasets: Parquet files with images and semantic maps as columns, and a card that says what is where."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from types import ModuleType
from typing import Any, Final

from ovam.core.export.datasheet import line_of
from ovam.core.export.entries import Entry
from ovam.core.export.files import File, Spool
from ovam.core.export.forms import HuggingFace
from ovam.core.label_maps import indexed_png
from ovam.errors import MissingPackageError

GROUP_ROWS: Final = 100  # rows that a reader unpacks together
GROUP_BYTES: Final = 1 << 24
SPLITS: Final = {"train": "train", "val": "validation"}  # as the hub calls them


def pyarrow() -> ModuleType:
    """Return pyarrow with its Parquet writer. Raises `MissingPackageError`."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise MissingPackageError("pyarrow", "parquet", "the form 'huggingface'") from error
    return pa


def huggingface_files(entries: Iterable[Entry], form: HuggingFace) -> Iterator[File]:
    """Fill Parquet files of about `shard_bytes`; each comes when it is full, and the last ones at the end."""
    arrow = pyarrow()
    with ExitStack() as stack:
        tables: dict[str, Table] = {}
        for entry in entries:
            if entry.split not in tables:
                tables[entry.split] = Table(entry.split, stack.enter_context(Spool()), arrow)
            table = tables[entry.split]
            table.add(row_of(entry, form.rest))
            if len(table.content) >= form.shard_bytes:
                yield from table.finished()
        for table in tables.values():
            yield from table.finished()


class Table:
    """The Parquet file of a split that is being filled."""

    def __init__(self, split: str, content: Spool, arrow: ModuleType) -> None:
        self.split, self.content, self.arrow, self.number = split, content, arrow, 0
        self.rows: list[dict[str, Any]] = []
        self.bytes = 0
        self.writer: Any = None

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; rows are packed some at a time."""
        self.rows.append(row)
        self.bytes += len(row["image"]["bytes"]) + len(row["mask"]["bytes"])
        if len(self.rows) >= GROUP_ROWS or self.bytes >= GROUP_BYTES:
            self._pack()

    def finished(self) -> Iterator[File]:
        """Return the file if there is anything in it, and begin the next."""
        self._pack()
        if self.writer is not None:
            self.writer.close()
            yield File(f"data/{self.split}-{self.number:05d}.parquet", self.content)
            self.content.clear()
            self.number, self.writer = self.number + 1, None

    def _pack(self) -> None:
        if not self.rows:
            return
        schema = schema_of(self.arrow)
        if self.writer is None:
            self.writer = self.arrow.parquet.ParquetWriter(self.content, schema, compression="zstd")
        self.writer.write_table(self.arrow.Table.from_pylist(self.rows, schema=schema))
        self.rows, self.bytes = [], 0


def row_of(entry: Entry, rest: int) -> dict[str, Any]:
    """Return a sample as a row of `schema_of`."""
    known = line_of(entry)
    return {
        "name": entry.sample.name,
        "image": {"bytes": entry.image.data, "path": entry.file_name},
        "mask": {"bytes": indexed_png(entry.labels(rest)), "path": f"{entry.stem}.mask.png"},
        "prompt": entry.sample.prompt,
        "seed": entry.seed,
        "labels": [each["label"] for each in known["annotations"]],
        "scores": [each["score"] for each in known["annotations"]],
        "metadata": json.dumps(known["metadata"], ensure_ascii=False),
    }


def schema_of(arrow: ModuleType) -> Any:  # noqa: ANN401 - pyarrow's schema
    """Return the columns; the metadata tells the library `datasets` that two of them are pictures."""
    text, picture = arrow.string(), arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    columns = {"name": text, "image": picture, "mask": picture, "prompt": text, "seed": arrow.uint64()}
    columns |= {"labels": arrow.list_(text), "scores": arrow.list_(arrow.float64()), "metadata": text}
    features = {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}
    return arrow.schema(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})


def card(page: str, facts: Mapping[str, Any]) -> str:
    """Return a data set's page with the head that the hub and `load_dataset` read."""
    head = ["---", "task_categories:", "- image-segmentation"]
    if facts["images"]:
        head += ["configs:", "- config_name: default", "  data_files:"]
        head += [f"  - split: {SPLITS[split]}\n    path: data/{split}-*.parquet" for split in facts["images"]]
    return "\n".join([*head, "---", "", page])
