"""``thinfs warm`` and ``thinfs cache``, as commands against a repository that is watched."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support import sweep
from tests.support.converted import files_of
from tests.support.faulty_http import FaultyServer
from tests.support.lazy import HeldFiles
from tests.support.reading import flipped, sha256
from tests.support.small_images import convert_here
from tests.support.wait import wait_until
from tests.support.warming import WarmNode, warm_node
from thinfs.oci.recipe import render_recipe
from thinfs.store.profiles import Profile, Touched, render_profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOW_WATER = 0.9
SLACK_BYTES = 64 << 10


@pytest.fixture
def folder() -> Iterator[Path]:
    made = sweep.make_folder("warm")
    yield made
    sweep.sweep_folder(made)


@pytest.fixture
def node(folder: Path) -> Iterator[WarmNode]:
    with FaultyServer({}) as server:
        yield warm_node(folder, server, 3)


def bodies(node: WarmNode, image: int) -> list[bytes]:
    found = files_of(node.folder / "built", node.catalogs[image])
    return [body for body in found.values() if body]


def kept(node: WarmNode, image: int) -> bool:
    return all(node.has(sha256(body)) for body in bodies(node, image))


def test_all_of_an_image_comes_and_each_object_once(node: WarmNode) -> None:
    done = node.json("warm", "--all", node.recipes[0])
    [image] = done["images"]
    assert image["state"] == "warmed"
    assert image["fetched_objects"] == len(node.asked()) == len(set(node.asked())) > 1
    assert kept(node, 0)


def test_a_second_warm_asks_nobody_and_says_so(node: WarmNode) -> None:
    node.run("warm", node.recipes[0])
    node.server.stop()
    assert "nothing to do" in node.run("warm", node.recipes[0])
    assert node.json("warm", "--profile", node.recipes[0])["images"][0]["state"] == "complete"


def test_images_share_what_has_come_for_one_of_them(node: WarmNode) -> None:
    node.run("warm", *node.recipes)
    assert len(node.asked()) == len(set(node.asked()))
    assert all(kept(node, image) for image in range(3))


def test_after_a_kill_only_what_is_missing_is_fetched(node: WarmNode) -> None:
    objects = sorted(node.files.below("objects"))
    early = [path for path in objects[: len(objects) // 2] if node.bodies_in(0, path)]
    here = {body for path in early for body in node.bodies_in(0, path)}
    assert here
    node.files.hold(set(objects) - set(early))
    with node.start("warm", node.recipes[0]) as warming:
        wait_until(lambda: all(map(node.has, here)), "what is not held back")
        warming.stop(signal.SIGKILL)
    node.files.let_go()
    node.files.asked.clear()
    node.run("warm", node.recipes[0])
    assert node.asked()
    assert not set(node.asked()) & set(early)
    assert kept(node, 0)


def test_what_has_arrived_stays_when_it_is_told_to_stop(node: WarmNode) -> None:
    objects = sorted(node.files.below("objects"))
    node.files.hold(objects[len(objects) // 2 :])
    with node.start("warm", node.recipes[0]) as warming:
        wait_until(lambda: any((node.cache / "contents").glob("*/*")), "contents")
        assert warming.stop(signal.SIGTERM) == 130
    node.files.let_go()
    assert any((node.cache / "contents").glob("*/*"))


def test_an_image_without_room_is_refused_before_its_objects_are_asked_for(node: WarmNode) -> None:
    node.cache_settings["max_bytes"] = 2 << 20
    done = node.json("warm", node.recipes[0], code=7)
    assert "raise [cache] max_bytes" in done["images"][0]["error"]
    assert done["images"][0]["error_kind"] == "StoreError"
    assert not node.asked()
    assert node.json("cache", "ls") == []


def test_an_image_that_cannot_be_had_keeps_no_other_one_from_coming(node: WarmNode) -> None:
    alone = set(map(sha256, bodies(node, 1))) - set(map(sha256, bodies(node, 0)))
    gone = [path for path in node.files.below("objects") if node.bodies_in(1, path) & alone]
    gone = [path for path in gone if not node.bodies_in(0, path)]
    del node.files[gone[0]]
    done = node.json("warm", node.recipes[1], node.recipes[0], code=3)
    assert [image["state"] for image in done["images"]] == ["failed", "warmed"]
    assert gone[0].rpartition("/")[2] in done["images"][0]["error"]
    assert kept(node, 0)


def test_a_list_of_images_comes_from_a_file(node: WarmNode) -> None:
    assert "does not exist" in node.run("warm", "--from", node.folder / "nothing", code=3)
    names = node.folder / "images.txt"
    names.write_text(f"# of this week\n{node.recipes[0]}\n\n{node.recipes[1]} # and this\n")
    done = node.json("warm", "--from", names)
    assert [image["state"] for image in done["images"]] == ["warmed", "warmed"]


def test_paths_bring_the_files_that_match_and_not_the_whole_image(node: WarmNode) -> None:
    wanted = [body for path, body in _tree(node).items() if path.startswith(b"app/own")]
    node.run("warm", "--path", "/app/own*", node.recipes[0])
    assert all(node.has(sha256(body)) for body in wanted)
    assert not kept(node, 0)
    assert "nothing to do" in node.run("warm", "--path", "/app/own*", node.recipes[0])
    assert "no path that matches" in node.run("warm", "--path", "/nix", node.recipes[0], code=3)


def test_a_profile_that_an_image_does_not_have_is_the_users_mistake(node: WarmNode) -> None:
    assert "has no boot profile" in node.run("warm", "--profile", node.recipes[0], code=2)
    assert "no image is named" in node.run("warm", code=2)


def test_a_profile_brings_what_a_start_needs_and_all_of_it_can_follow(node: WarmNode) -> None:
    large, *small = [f"app/own{number}" for number in range(4)]
    recipe = _profiled(node, {large: ((0, 5000),), **dict.fromkeys(small, ())})
    tree = _tree(node)
    done = node.json("warm", "--profile", "--pin", recipe)
    assert done["images"][0]["fetched_objects"] == len(node.asked()) > 0
    assert all(node.has(sha256(tree[path.encode()])) for path in small)
    assert not node.has(sha256(tree[large.encode()]))
    assert "nothing to do" in node.run("warm", "--profile", "--pin", recipe)
    node.run("warm", "--all", recipe)
    assert len(node.asked()) == len(set(node.asked()))
    assert kept(node, 0)


def test_pinned_images_stay_whatever_else_comes(node: WarmNode) -> None:
    with_one, with_other = _together(node, (0, 1)), _together(node, (0, 2))
    assert _together(node, (0, 1, 2)) > max(with_one, with_other) / LOW_WATER + SLACK_BYTES
    node.cache_settings["max_bytes"] = int(max(with_one, with_other) / LOW_WATER) + SLACK_BYTES
    node.run("warm", "--pin", node.recipes[0])
    node.run("warm", node.recipes[1])
    node.run("warm", node.recipes[2])
    state = {image["name"]: image for image in node.json("cache", "ls")}
    assert state[str(node.recipes[0])]["complete"]
    assert state[str(node.recipes[0])]["pinned"]
    assert not state[str(node.recipes[1])]["complete"]
    assert kept(node, 0)
    assert "is pinned" in node.run("cache", "evict", node.recipes[0], code=7)
    node.run("cache", "unpin", node.recipes[0])
    node.run("cache", "evict", node.recipes[0])
    assert not kept(node, 0)
    assert kept(node, 2)


def test_more_is_not_pinned_than_leaves_the_cache_room_to_work(node: WarmNode) -> None:
    each = [_together(node, (number,)) for number in (0, 1)]
    node.cache_settings["max_bytes"] = int(max(each) / LOW_WATER) + SLACK_BYTES
    node.run("warm", "--pin", node.recipes[0])
    assert "unpin an image" in node.run("warm", node.recipes[1], code=7)
    assert "was not brought" in node.run("cache", "pin", node.recipes[1], code=3)


def test_damage_is_found_and_mended(node: WarmNode) -> None:
    node.run("warm", "--pin", node.recipes[0])
    contents = sorted((node.cache / "contents").glob("*/*"))
    victims = [contents[0], contents[-1], *(node.cache / "metadata").iterdir()]
    for victim in victims:
        whole = victim.read_bytes()
        victim.chmod(0o644)
        victim.write_bytes(flipped(whole))
    found = node.json("cache", "verify", code=5)
    assert {each["digest"] for each in found["damaged"]} == {victim.name for victim in victims}
    assert node.json("cache", "verify", "--repair")["repaired"]
    assert node.json("cache", "verify")["damaged"] == []
    assert kept(node, 0)
    [image] = node.json("cache", "ls")
    assert image["complete"]
    assert image["pinned"]


def test_room_is_told_by_image_shared_and_exclusive(node: WarmNode) -> None:
    node.run("warm", node.recipes[0], node.recipes[1])
    blocks = [
        {sha256(body): -(-len(body) // 4096) * 4096 for body in bodies(node, n)} for n in (0, 1)
    ]
    shared = sum(size for digest, size in blocks[0].items() if digest in blocks[1])
    found = node.json("cache", "du", "--by-image")
    assert {image["shared"] for image in found["images"]} == {shared}
    assert {tuple(image["names"]) for image in found["images"]} == {
        (str(node.recipes[0]),),
        (str(node.recipes[1]),),
    }
    assert found["other"] == 0
    assert found["bytes"] == sum(kind["bytes"] for kind in found["kinds"].values())


def _tree(node: WarmNode) -> dict[bytes, bytes]:
    return files_of(node.folder / "built", node.catalogs[0])


def _profiled(node: WarmNode, touched: dict[str, tuple[tuple[int, int], ...]]) -> Path:
    """Convert the first image again, with a profile; the recipe of that."""
    tree = _tree(node)
    touches = tuple(
        Touched(sha256(tree[path.encode()]).hex(), path, 0, ranges)
        for path, ranges in touched.items()
    )
    profile = node.folder / "profile"
    profile.write_bytes(render_profile(Profile(1, "sha256:" + "c" * 64, "x", 1, 9, touches)))
    image = f"oci:{node.folder / 'in'}:0"
    made = convert_here(node.folder / "again", image, url=node.server.url, profile=profile)
    node.server.files = node.files = HeldFiles(node.folder / "again")
    recipe = node.folder / "profiled.json"
    recipe.write_bytes(render_recipe(made.images[0].recipe))
    return recipe


def _together(node: WarmNode, numbers: tuple[int, ...]) -> int:
    """What images count, warmed into a cache of their own."""
    aside = node.folder / "aside" / "-".join(map(str, numbers))
    node.run("warm", "--cache", aside, *(node.recipes[number] for number in numbers))
    return int(node.json("cache", "du", "--cache", aside)["bytes"])
