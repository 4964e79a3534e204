"""Token files come back as they were, and no file does anything but hold numbers."""

import contextlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from ovam.errors import EmbeddingNotFiniteError, InvalidArgumentError, TokenFileError, TokenWidthError, UnsafePickleError
from ovam.learning.pickled_arrays import numbers
from ovam.learning.pickles import read_pickle
from ovam.learning.token_files import (
    MOST_BYTES,
    LearnedTokens,
    from_npy,
    from_published,
    from_safetensors,
    from_textual_inversion,
    require_width,
    to_npy,
    to_safetensors,
    to_textual_inversion,
)

ROWS = torch.arange(96, dtype=torch.float32).view(3, 32)
TOKENS = LearnedTokens(ROWS, ("cat", "dog"), {"model": "tiny", "loss": 0.25, "examples": ["a", "b"]})
ARRAYS = {"cat": np.arange(64, dtype=np.float32).reshape(2, 32), "dog": np.ones((2, 32), dtype=np.float32)}


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("write", "read"), [(to_safetensors, from_safetensors), (to_textual_inversion, from_textual_inversion)])
def test_tokens_come_back_with_names_and_metadata(write: Any, read: Any) -> None:
    again = read(write(TOKENS))
    assert torch.equal(again.embedding, ROWS)
    assert (again.names, again.metadata, again.width) == (TOKENS.names, TOKENS.metadata, 32)


def test_rows_come_back_from_npy_and_are_named_anew() -> None:
    data = to_npy(TOKENS)
    assert np.array_equal(np.load(io.BytesIO(data), allow_pickle=False), ROWS.numpy())
    assert torch.equal(from_npy(data, "cat", "dog").embedding, ROWS)
    assert from_npy(data).names == ("token-1", "token-2")
    assert torch.equal(from_npy(saved(np.asfortranarray(ROWS.numpy().astype(np.float64)))).embedding, ROWS)


@pytest.mark.parametrize("name", ["pets.safetensors", "PETS.SAFETENSORS", "pets.npy", "PETS.NPY"])
def test_tokens_are_saved_to_a_file_and_loaded_from_it(tmp_path: Path, name: str) -> None:
    TOKENS.save(tmp_path / name)
    again = LearnedTokens.load(tmp_path / name)
    assert torch.equal(again.embedding, ROWS)
    assert again.names == (("token-1", "token-2") if name.lower().endswith("npy") else TOKENS.names)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("data", [to_textual_inversion(TOKENS), save({"<cat>": ROWS})], ids=["ours", "others'"])
def test_a_textual_inversion_is_loaded_like_a_file_of_tokens(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "pets.safetensors").write_bytes(data)
    again = LearnedTokens.load(tmp_path / "pets.safetensors")
    assert torch.equal(again.embedding, ROWS)
    assert again.names in (TOKENS.names, ("cat-1", "cat-2"))


def test_a_file_is_replaced_whole_and_never_written_into(tmp_path: Path) -> None:
    file, as_it_was = tmp_path / "pets.npy", tmp_path / "as-it-was.npy"
    TOKENS.save(file)
    os.link(file, as_it_was)
    LearnedTokens(ROWS + 1, TOKENS.names).save(file)
    assert torch.equal(LearnedTokens.load(as_it_was).embedding, ROWS)
    assert torch.equal(LearnedTokens.load(file).embedding, ROWS + 1)


def test_what_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^path is .*pets.pt'; allowed: .*safetensors or .npy"):
        TOKENS.save(tmp_path / "pets.pt")
    (tmp_path / "pets.npy").mkdir()
    with pytest.raises(IsADirectoryError):
        TOKENS.save(tmp_path / "pets.npy")
    assert [file.name for file in tmp_path.iterdir()] == ["pets.npy"]


@pytest.mark.parametrize("write", [to_safetensors, to_textual_inversion, to_npy])
def test_tokens_of_any_type_and_order_are_written_in_single_precision(write: Any) -> None:
    turned = ROWS.T.contiguous().T
    for rows in (ROWS.bfloat16(), ROWS.half(), ROWS.double(), ROWS.clone().requires_grad_(), turned):
        assert write(LearnedTokens(rows, TOKENS.names, TOKENS.metadata)) == write(TOKENS)


def test_diffusers_loads_the_textual_inversion_file(pipeline: StableDiffusionPipeline, tmp_path: Path) -> None:
    (tmp_path / "learned_embeds.safetensors").write_bytes(to_textual_inversion(TOKENS, "<animals>"))
    try:
        pipeline.load_textual_inversion(str(tmp_path))
        table = pipeline.text_encoder.get_input_embeddings().weight
        numbers = pipeline.tokenizer.convert_tokens_to_ids(["<animals>", "<animals>_1", "<animals>_2"])
        assert torch.equal(table[numbers].detach().float(), ROWS)
    finally:
        pipeline.unload_textual_inversion()


def test_a_textual_inversion_file_of_others_is_read_by_its_placeholder() -> None:
    found = from_textual_inversion(save({"<cat-toy>": ROWS[:2].half()}))
    assert found.names == ("cat-toy",)
    assert torch.equal(found.embedding, ROWS[:2])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_published_tokens_are_read_from_a_pickle_of_any_protocol(protocol: int) -> None:
    for data in (pickle.dumps(ARRAYS, protocol), pickle.dumps(np.array(ARRAYS, dtype=object), protocol)):
        found = from_published(data)
        assert list(found) == ["cat", "dog"]
        for name, rows in ARRAYS.items():
            assert np.array_equal(found[name].embedding.numpy(), rows)


def test_published_tokens_are_read_from_a_pickled_npy() -> None:
    found = from_published(saved(ARRAYS))
    assert np.array_equal(found["cat"].embedding.numpy(), ARRAYS["cat"])
    old = saved(ARRAYS).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    with pytest.raises(TokenFileError):  # the length before the name is wrong now
        from_published(old)


def test_arrays_of_other_types_and_orders_are_read() -> None:
    turned = {"cat": np.asfortranarray(ARRAYS["cat"].astype(">f8"))}
    for protocol in (2, 4, 5):
        assert np.array_equal(from_published(pickle.dumps(turned, protocol))["cat"].embedding.numpy(), ARRAYS["cat"])


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def hostile(folder: Path) -> dict[str, bytes]:
    mark = str(folder / "carried-out")
    pairs = b"".join(b"\x94h%c\x86" % number for number in range(100))  # each twice in the next: 2**100 to hash
    return {
        "system": pickle.dumps(Call(os.system, f"touch {mark}")),
        "eval": pickle.dumps({"cat": Call(eval, f"open({mark!r}, 'w')")}),
        "system in an array": saved({"cat": Call(os.system, f"touch {mark}")}),
        "old protocol": f"cos\nsystem\n(S'touch {mark}'\ntR.".encode(),
        "getattr of numpy": b"cnumpy\nload\n(S'x'\ntR.",
        "attribute of an allowed name": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "object array": pickle.dumps({"cat": np.array([[None, 1]], dtype=object)}),
        "instance": pickle.dumps({"cat": folder}),
        "set": pickle.dumps({"cat": {1, 2}}),
        "nested keys": b"\x80\x04})" + pairs + b"Ns.",
        "filled name": b"\x80\x04cnumpy\nndarray\n}b.",
        "call of a call": b"\x80\x04cnumpy\ndtype\n)R)R.",
        "persistent": b"\x80\x04Pelsewhere\n.",
        "extension": b"\x80\x04\x82\x01.",
    }


def test_a_hostile_pickle_is_refused_and_not_carried_out(tmp_path: Path) -> None:
    for data in hostile(tmp_path).values():
        with pytest.raises(UnsafePickleError, match="the pickle"):
            from_published(data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04.",
        b"\x80\x04N.",
        b"\x80\x04}.",
        b"\x80\x04\x8c\x03cat.",
        b"\x80\x04}\x8c\x03cat\x8c\x03dogs.",
        b"\x80\x04r\xff\xff\xff\x7f.",
        b"\x80\x04Nr\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x04h\x05.",
        b"\x80\x04t.",
        b"\x80\x04N" + pickle.dumps(ARRAYS, 4)[2:],
        pickle.dumps(ARRAYS)[:-1],
        pickle.dumps(ARRAYS)[:200],
        pickle.dumps(ARRAYS["cat"]),
        pickle.dumps({"cat": np.ones((3, 32), dtype=np.float32)}),
        pickle.dumps({"cat": np.ones((2, 32), dtype=np.int64)}),
        pickle.dumps({"cat": np.ones((2, 2, 2), dtype=np.float32)}),
        pickle.dumps(ARRAYS).replace(b"K\x02K ", b"K\x02K!"),
        saved(ROWS.numpy()),
        saved(np.array([ARRAYS], dtype=object)),
        pickle.dumps(np.array([ARRAYS], dtype=object)),
        pickle.dumps(np.array(7, dtype=object), 4).replace(b"]\x94K\x07a", b"]\x94"),
        pickle.dumps(ARRAYS | {"b": ARRAYS["cat"]}, 4)[:-2] + b"\x8c\x03dogu.",
    ],
    ids=range(24),
)
def test_a_pickle_that_is_cut_short_or_holds_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(TokenFileError):
        from_published(data)


def test_values_that_are_missing_on_the_stack_are_told() -> None:
    for data in (b"\x80\x04N\x86.", b"\x80\x04NNN\x87\x87."):  # a pair of one value, three of one
        with pytest.raises(TokenFileError, match="values are missing on the stack"):
            read_pickle(data)
    assert read_pickle(b"\x80\x04NN\x86.") == (None, None)


def test_a_pickle_of_too_many_instructions_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovam.learning.pickles.MOST_INSTRUCTIONS", 100)
    with pytest.raises(TokenFileError, match="more than 100 instructions"):
        from_published(b"\x80\x04" + b"N" * 100 + b".")


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 900), st.binary(min_size=1, max_size=4))
def test_a_damaged_pickle_gives_tokens_or_an_error_of_its_own(place: int, damage: bytes) -> None:
    data = bytearray(pickle.dumps(ARRAYS, 4))
    data[place : place + len(damage)] = damage
    with contextlib.suppress(TokenFileError, UnsafePickleError, EmbeddingNotFiniteError):
        from_published(bytes(data))


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=200)
@given(st.integers(0, 130), st.binary(min_size=1, max_size=4))
def test_a_damaged_npy_gives_tokens_or_an_error_of_its_own(place: int, damage: bytes) -> None:
    data = bytearray(to_npy(TOKENS))
    data[place : place + len(damage)] = damage
    for read in (from_npy, from_published):
        with contextlib.suppress(TokenFileError, UnsafePickleError, EmbeddingNotFiniteError):
            read(bytes(data))


@pytest.mark.parametrize(
    "header", ["(" * 5000, "{'descr': '<f4'", "{'descr': [('a', 1)] * 9, 'shape': 1}", "b" * 20000, "{" * 90]
)
def test_a_header_that_is_a_hostile_expression_is_refused(header: str) -> None:
    text = header.encode() + b"\n"
    for read in (from_npy, from_published):
        with pytest.raises(TokenFileError):
            read(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def test_files_beyond_the_size_limit_are_not_looked_into() -> None:
    data = b"\x00" * (MOST_BYTES + 1)
    for read in (from_published, from_npy, from_safetensors, from_textual_inversion):
        with pytest.raises(TokenFileError, match="allowed: 67108864"):
            read(data)


def test_a_pickled_npy_is_not_loaded_as_plain_numbers() -> None:
    with pytest.raises(TokenFileError, match="pickled"):
        from_npy(saved(ARRAYS))


def test_an_array_of_three_dimensions_holds_no_tokens() -> None:
    with pytest.raises(TokenFileError, match=r"not \(classes, width\)"):
        numbers((1, 2, 4), "<f4", bytes(32), fortran=False)


def test_a_header_that_promises_more_than_the_file_holds_is_refused() -> None:
    data = saved(ROWS.numpy())
    for bad in (
        data[:-1],
        data[:40],
        data.replace(b"(3, 32)", b"(3, 99)"),
        saved(np.arange(6)),
        saved(ROWS[0].numpy()),
        b"PK\x03\x04",
    ):
        with pytest.raises(TokenFileError):
            from_npy(bad)


@pytest.mark.parametrize("read", [from_safetensors, from_textual_inversion])
def test_safetensors_that_hold_no_tokens_are_refused(read: Any) -> None:
    data = to_safetensors(TOKENS)
    later = data.replace(b"ovam-tokens/1", b"ovam-tokens/2")
    tensors = ({"a": ROWS[0]}, {"a": ROWS[:1]}, {"a": ROWS.long()}, {"a": ROWS, "b": ROWS.clone()}, {})
    for bad in (b"", data[:-1], data[:50], later, *map(save, tensors)):
        with pytest.raises(TokenFileError):
            read(bad)


@pytest.mark.parametrize("header", ["[" * 100_000, "[]", "null", "7", '{"names": 7}', '{"names": ["a"], "metadata": [1]}'])
def test_metadata_that_is_garbled_or_nested_too_deeply_is_refused(header: str) -> None:
    parts = {"background": ROWS[0].clone(), "classes": ROWS[1:].clone()}
    for read, tensors in ((from_safetensors, parts), (from_textual_inversion, {"<cat>": ROWS})):
        with pytest.raises(TokenFileError):
            read(save(tensors, metadata={"tokens": header}))


def test_tokens_that_are_no_numbers_or_have_no_names_are_refused() -> None:
    with pytest.raises(EmbeddingNotFiniteError):
        from_published(pickle.dumps({"cat": ARRAYS["cat"] * np.nan}))
    with pytest.raises(EmbeddingNotFiniteError):
        from_published(pickle.dumps({"cat": np.full((2, 3), 1e300)}))
    with pytest.raises(InvalidArgumentError, match="embedding"):
        LearnedTokens(ROWS, ("cat",))
    with pytest.raises(TokenFileError, match="embedding"):
        from_npy(to_npy(TOKENS), "cat")


def test_another_width_is_told_with_both() -> None:
    assert require_width(TOKENS, 32) is TOKENS
    with pytest.raises(TokenWidthError, match="'cat' is 32 wide, the model takes 768"):
        require_width(TOKENS, 768)
