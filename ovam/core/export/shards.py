"""WebDataset: tar archives of a bounded size, each holding some samples whole."""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from ovam.core.export.datasheet import line_of
from ovam.core.export.entries import Entry
from ovam.core.export.files import File, Spool, tar_end, tar_entry
from ovam.core.export.forms import WebDataset
from ovam.core.label_maps import indexed_png


def webdataset_files(entries: Iterable[Entry], form: WebDataset) -> Iterator[File]:
    """Fill shards of about `shard_bytes`; each comes when it is full, and the last ones at the end."""
    with ExitStack() as stack:
        shards: dict[str, Shard] = {}
        for entry in entries:
            if entry.split not in shards:
                shards[entry.split] = Shard(entry.split, stack.enter_context(Spool()))
            shard = shards[entry.split]
            shard.add(entry, form.rest)
            if len(shard.content) >= form.shard_bytes:
                yield from shard.finished()
        for shard in shards.values():
            yield from shard.finished()


class Shard:
    """The archive of a split that is being filled."""

    def __init__(self, split: str, content: Spool) -> None:
        self.split, self.content, self.number = split, content, 0

    def add(self, entry: Entry, rest: int) -> None:
        """Append a sample: its image, its semantic map, and what else is known."""
        known = json.dumps({**line_of(entry), "classes": dict(entry.numbers)}, ensure_ascii=False).encode()
        for file in (
            File(entry.file_name, entry.image.data),
            File(f"{entry.stem}.mask.png", indexed_png(entry.labels(rest))),
            File(f"{entry.stem}.json", known),
        ):
            self.content.writelines(tar_entry(file))

    def finished(self) -> Iterator[File]:
        """Return the archive if there is anything in it, and begin the next."""
        if len(self.content):
            self.content.write(tar_end())
            yield File(f"{self.split}-{self.number:06d}.tar", self.content)
            self.content.clear()
            self.number += 1
