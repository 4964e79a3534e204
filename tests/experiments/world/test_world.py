"""The world: its atlas, scenes, masks and captions."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.world import atlas, captions, painting, scene
from experiments.world.grounds import GROUNDS
from experiments.world.scene import HELD_OUT, START, WORLD, Recipe, Scene
from experiments.world.thing import Thing

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow "
    "diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
)
RECIPES = (START, WORLD, HELD_OUT)


def scenes(recipe: Recipe, count: int) -> list[Scene]:
    return [scene.sample(np.random.default_rng((77, seed)), recipe) for seed in range(count)]


@pytest.mark.parametrize(
    ("recipe", "known"),
    [(START, "faa1a670e9e0beab"), (WORLD, "ebe5b4cad24de353")],
    ids=lambda value: value.name if isinstance(value, Recipe) else "",
)
def test_a_seed_gives_the_same_picture_on_every_machine(recipe: Recipe, known: str) -> None:
    digest = hashlib.sha256()
    for item in scenes(recipe, 30):
        drawing = scene.draw(item)
        digest.update(drawing.image.tobytes() + drawing.labels().tobytes())
    assert digest.hexdigest()[:16] == known


def test_drawing_a_scene_again_gives_the_same_bytes_whatever_was_drawn_before() -> None:
    first, second = scenes(WORLD, 2)
    before = scene.draw(first).image.tobytes()
    scene.draw(second)
    painting.prepared.cache_clear()
    assert scene.draw(first).image.tobytes() == before


def test_a_mask_is_where_its_thing_alone_changes_most_of_a_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint each thing flat white on black: what stays at least half white and uncovered is its mask."""
    placed = painting.placed
    monkeypatch.setattr(painting, "shade", lambda *_: None)
    monkeypatch.setattr(painting, "backdrop", lambda _: np.zeros((scene.SIZE, scene.SIZE, 3), np.uint8))
    monkeypatch.setattr(painting, "lit", lambda canvas, _: canvas)
    for item in scenes(WORLD, 40):
        covered = np.zeros((scene.SIZE, scene.SIZE), bool)
        masks = scene.draw(item).things
        for thing, mask in reversed(list(zip(item.things, masks, strict=True))):

            def flat(one: Thing) -> tuple[painting.Pixels, int, int]:
                pixels, left, top = placed(one)
                return np.repeat(pixels[..., 3:], 4, axis=2), left, top

            monkeypatch.setattr(painting, "placed", flat)
            alone = painting.draw(Scene(item.ground, item.piece, (thing,))).image[..., 0] >= 128
            monkeypatch.setattr(painting, "placed", placed)
            assert (mask == (alone & ~covered)).all()
            covered |= alone


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_class_of_a_recipe_can_be_drawn_and_is_seen(recipe: Recipe) -> None:
    for name in scene.classes_of(recipe):
        drawing = scene.draw(scene.sample(np.random.default_rng(3), recipe, (name,)))
        assert drawing.of_class(name).sum() > 100, name
        assert set(np.unique(drawing.labels())) == {0, atlas.load().classes.index(name) + 1}


def test_the_world_has_pascal_vocs_classes_first_and_at_least_thirty_more() -> None:
    book = atlas.load()
    assert list(book.classes[:20]) == VOC.split()
    assert all(book.kinds[name].voc for name in VOC.split())
    assert len(scene.classes_of(WORLD)) >= 50
    assert set(VOC.split()) <= set(scene.classes_of(START))
    assert set(VOC.split()) <= set(scene.classes_of(HELD_OUT))


def test_training_never_sees_a_sprite_of_a_set_that_is_held_out() -> None:
    held_out = atlas.load().held_out
    assert held_out == {"twemoji", "own-held-out"}
    for recipe in (START, WORLD):
        assert not {sprite.set for sprites in scene.sprites_of(recipe).values() for sprite in sprites} & held_out
        assert not {thing.sprite.split("/")[0] for item in scenes(recipe, 200) for thing in item.things} & held_out
    assert {sprite.set for sprites in scene.sprites_of(HELD_OUT).values() for sprite in sprites} == held_out


def test_scenes_are_varied() -> None:
    many = scenes(WORLD, 600)
    assert {len(item.things) for item in many} == {1, 2, 3, 4}
    assert {item.ground for item in many} == set(range(len(GROUNDS)))
    assert len(GROUNDS) >= 10
    assert {item.relation.word for item in many if item.relation} == set(captions.RELATIONS)
    sizes = [max(thing.width, thing.height) / scene.SIZE for item in many for thing in item.things]
    assert min(sizes) < 0.13
    assert 0.78 < max(sizes) < 0.83


def test_what_is_together_can_be_seen_apart() -> None:
    """A part-like thing has pixels of its own, and so has what it is on."""
    for item in scenes(START, 600):
        if item.relation is not None:
            masks = scene.draw(item).things
            assert min(masks[item.relation.first].sum(), masks[item.relation.second].sum()) > 30


def test_about_half_of_the_captions_of_several_things_leave_some_out() -> None:
    book, silent, several = atlas.load(), 0, 0
    for seed, item in enumerate(scenes(WORLD, 1500)):
        kinds = {thing.kind for thing in item.things}
        if len(item.things) < 2 or len(kinds) < len(item.things):
            continue
        text = f" {captions.caption(np.random.default_rng(seed), item)} ".replace(",", " ")
        said = sum(any(f" {word} " in text for word in book.kinds[kind].words) for kind in kinds)
        several += 1
        silent += said < len(kinds)
    assert 0.43 < silent / several < 0.57


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_captions_are_short_and_use_only_the_vocabulary(recipe: Recipe) -> None:
    words = set(captions.vocabulary())
    for seed, item in enumerate(scenes(recipe, 800)):
        text = captions.caption(np.random.default_rng(seed), item)
        spelled = text.replace(",", " ,").split()
        assert set(spelled) <= words
        assert len(spelled) <= 46  # a tokenizer with every word whole needs two more


@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_a_thing_is_painted_in_the_colour_that_is_said(colour: str, channel: int) -> None:
    cars = [scene.sample(np.random.default_rng((5, seed)), START, ("car",)) for seed in range(200)]
    drawings = [scene.draw(car) for car in cars if car.things[0].paint == colour]
    assert len(drawings) >= 3
    for drawing in drawings:
        assert drawing.image[drawing.things[0]].mean(axis=0).argmax() == channel
        assert drawing.scene.things[0].colour == colour


def test_an_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(atlas.AtlasError, match="no class 'unicorn'"):
        scene.sample(np.random.default_rng(0), WORLD, ("unicorn",))
    with pytest.raises(atlas.AtlasError, match="'start' draws no 'guitar'"):
        scene.sample(np.random.default_rng(0), START, ("guitar",))
    with pytest.raises(atlas.AtlasError, match="1 to 4 things"):
        scene.sample(np.random.default_rng(0), START, ("cat",) * 5)
    with pytest.raises(atlas.AtlasError, match="no class 'unicorn'"):
        scene.draw(scenes(START, 1)[0]).of_class("unicorn")


def test_a_missing_atlas_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(atlas.AtlasError, match=r"missing index.json: run make_atlas.py"):
        atlas.read(tmp_path)
    shutil.copy(atlas.FOLDER / "index.json", tmp_path)
    with pytest.raises(atlas.AtlasError, match=r"missing .*png: run make_atlas.py"):
        atlas.read(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "repainted", "rewritten", "not json", "no version"])
def test_a_damaged_atlas_is_said_plainly(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(atlas.FOLDER, folder)
    index = json.loads((folder / "index.json").read_text())
    if damage == "cut":
        (folder / "noto.png").write_bytes((folder / "noto.png").read_bytes()[:5000])
    elif damage == "repainted":
        sheet = np.array(Image.open(folder / "own.png"))
        sheet[5, 60] = (1, 2, 3, 255)
        Image.fromarray(sheet).save(folder / "own.png")
    elif damage == "rewritten":
        index["sprites"]["noto/cat"]["class"] = "dog"
        (folder / "index.json").write_text(json.dumps(index))
    elif damage == "not json":
        (folder / "index.json").write_text("{")
    else:
        del index["version"]
        (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(atlas.AtlasError, match="damaged"):
        atlas.read(folder)


def test_weights_of_another_atlas_are_refused() -> None:
    atlas.check(atlas.load().version)
    with pytest.raises(atlas.AtlasError, match="version 0123456789ab of the atlas"):
        atlas.check("0123456789ab")


def test_the_licences_and_the_authors_of_every_set_lie_beside_the_atlas() -> None:
    told = (atlas.FOLDER / "README.md").read_text()
    assert all(f"`{name}.png`" in told for name in atlas.load().sheets)
    assert all(author in told for author in ("Google Inc", "Microsoft Corporation", "Mozilla", "Twitter, Inc"))
    for name, words in (
        ("Apache-2.0", "TERMS AND CONDITIONS"),
        ("MIT", "Microsoft Corporation"),
        ("CC-BY-4.0", "Attribution 4.0"),
    ):
        assert words in (atlas.FOLDER / "licences" / f"{name}.txt").read_text()
        assert f"licences/{name}.txt" in told


def test_the_atlas_is_small_and_complete() -> None:
    book = atlas.load()
    assert sum(file.stat().st_size for file in atlas.FOLDER.rglob("*") if file.is_file()) < 3_000_000
    chosen = json.loads((atlas.FOLDER.parent / "classes.json").read_text())
    assert list(chosen["classes"]) == list(book.classes)
    for name, sprite in book.sprites.items():
        pixels = book.pixels(name)
        assert pixels.shape == (sprite.box[3], sprite.box[2], 4)
        assert (pixels[..., 3] > 127).mean() > 0.04, name
        assert not pixels[pixels[..., 3] == 0].any()
