"""The pages over HTTP: who is let in, what is given out, what is said when something is missing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from cell.settings import Settings
from cell.store import images
from cell.store.layout import StateDir
from cell.store.learning import LearningStore
from tests.web import cells, product

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, str]]:
    """A filled cell with its trainer and its pages."""
    settings = cells.settings_in(tmp_path_factory.mktemp("cell"))
    cells.filled(settings, candidates=8)
    with cells.trainer(settings), cells.pages(settings) as address:
        yield settings, address


@pytest.fixture
def http(cell: tuple[Settings, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cell[1]) as client:
        yield client


def token_of(http: httpx.Client) -> dict[str, str]:
    """Load a page, as a browser does, and return the header that its scripts send."""
    found = re.search(r'name="csrf" content="(\w+)"', http.get("/review").text)
    assert found
    return {"x-csrf-token": found[1]}


def named(http: httpx.Client, name: str = "Ada Moser") -> dict[str, str]:
    headers = token_of(http)
    assert http.post("/api/reviewer", json={"name": name}, headers=headers).json() == {"reviewer": name}
    return headers


def candidate(http: httpx.Client, **values: str) -> dict[str, Any]:
    answer = http.get("/api/review/next", params={"recipe": "cover", **values})
    found: dict[str, Any] = answer.json()["candidate"]
    return found


def test_pages_run_no_script_but_their_own(http: httpx.Client) -> None:
    for name in ("live", "review", "seeds", "jobs"):
        answer = http.get(f"/{name}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        text = answer.text
        assert not re.search(r"<script(?![^>]*\ssrc=)", text)
        assert not re.search(r"\son\w+=|style=", text), "no inline handlers or styles"
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), "everything comes from this host"
        for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
            assert http.get(address).status_code == 200
    style = http.get("/static/style.css").text
    for address in re.findall(r'url\("([^"]+)"\)', style):
        assert http.get(address).headers["content-type"] == "font/woff2"


def test_a_post_needs_the_token_of_its_page_and_its_origin(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    headers = named(http)
    body = {"candidate_id": candidate(http)["candidate_id"]}
    url = "/api/review/displayed"
    assert http.post(url, json=body, headers=headers).status_code == 200
    assert http.post(url, json=body, headers=headers | {"origin": cell[1]}).status_code == 200
    refused = [
        {},
        {"x-csrf-token": "0" * 64},
        headers | {"origin": "http://evil.example"},
        headers | {"origin": "null"},
        headers | {"sec-fetch-site": "cross-site"},
        headers | {"sec-fetch-site": "same-site"},
    ]
    for wrong in refused:
        assert http.post(url, json=body, headers=wrong).status_code == 403, wrong
    with httpx.Client(base_url=cell[1]) as other:
        token_of(other)
        assert other.post(url, json=body, headers=headers).status_code == 403, "another session's token"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1"])
def test_a_rebound_name_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/api/review/summary", params={"recipe": "cover"}, headers={"host": host})
    assert answer.status_code in {400, 403}
    assert "waiting" not in answer.text


def test_nothing_is_decided_without_a_name(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    headers = token_of(http)
    found = candidate(http)
    for url in ("displayed", "decide"):
        answer = http.post(f"/api/review/{url}", json={"candidate_id": found["candidate_id"]}, headers=headers)
        assert answer.status_code == 401
    for name in ("", " ", "x", "\n\n", "7 7 7", "a" * 65, "Ada\x00Moser"):
        assert http.post("/api/reviewer", json={"name": name}, headers=headers).status_code == 422, name
    assert http.post("/api/reviewer", json={"name": ["Ada"]}, headers=headers).status_code == 400


def test_the_gate_stands_behind_the_page(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    headers = named(http, "Grace Muster")
    first = candidate(http)["candidate_id"]
    second = candidate(http, after=first)["candidate_id"]

    def displayed(candidate_id: str) -> str:
        answer = http.post("/api/review/displayed", json={"candidate_id": candidate_id}, headers=headers)
        token: str = answer.json()["token"]
        return token

    def decide(candidate_id: str, token: str, **more: Any) -> httpx.Response:
        body: dict[str, Any] = {"candidate_id": candidate_id, "verb": "accept", "token": token} | more
        return http.post("/api/review/decide", json=body, headers=headers)

    token = displayed(first)
    assert decide(second, token).status_code == 409, "the token of another candidate"
    assert decide(first, "1.00").status_code == 409, "a forged token"
    assert decide(first, "").status_code in {400, 409}
    assert decide(first, token, verb="reject").status_code == 400, "a rejection needs a reason"
    assert decide(first, token, verb="acceptall").status_code == 400
    several = {"candidate_id": [first, second], "verb": "accept", "token": token}
    answer = http.post("/api/review/decide", json=several, headers=headers)
    assert answer.status_code == 400, "one at a time"
    displayed(second)
    assert decide(first, token).status_code == 409, "another one is on the screen"
    token = displayed(first)
    # What a request claims about itself does not count: who decides is the name, and a browser is a person's.
    answer = decide(first, token, reviewer="Somebody Else", is_person=False)
    assert answer.json()["decision"]["reviewer"] == "Grace Muster"
    assert answer.json()["decision"]["is_person"] is True
    assert decide(first, token).status_code == 409, "a token is good once"


def test_the_page_never_learns_which_candidates_were_planted(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    with LearningStore(StateDir(cell[0].state_dir)) as store:
        planted = [r.candidate for r in store.candidates.list("cover") if r.candidate.planted_bad]
    assert planted
    seen, after = {}, ""
    for _ in range(8):
        view = candidate(http, after=after)
        after = view["candidate_id"]
        seen[after] = view
    assert planted[0].candidate_id in seen
    keys = {frozenset(view) for view in seen.values()}
    assert len(keys) == 1
    assert not re.search(r"plant|procedural|\"arm\"", json.dumps(list(seen.values())))


def test_channels_are_given_as_stated(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    view = candidate(http)
    with LearningStore(StateDir(cell[0].state_dir)) as store:
        stack = store.read_image(store.candidates.get(view["candidate_id"]).candidate.image)
    for index, channel in enumerate(view["channels"]):
        assert channel["name"] == stack.channels[index]
        shown = channel["ranges"]["stretched"]
        answer = http.get(shown["whole"])
        assert answer.headers["content-type"] == "image/png"
        low, high = shown["low"], shown["high"]
        assert answer.headers["x-display-stretch"] == f"{low}..{high} DN to 0..255"
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)))
        expected = np.clip(np.rint((stack.pixels[index].astype(float) - low) * 255 / (high - low)), 0, 255)
        np.testing.assert_array_equal(pixels, expected)
        box = view["crops"]["near"]
        crop = np.asarray(Image.open(io.BytesIO(http.get(shown["near"]).content)))
        rows, columns = slice(box["y"], box["y"] + box["height"]), slice(box["x"], box["x"] + box["width"])
        np.testing.assert_array_equal(crop, expected[rows, columns])
        clean = np.asarray(Image.open(io.BytesIO(http.get(shown["background"]["whole"]).content)))
        assert 0 < (clean != pixels).mean() < 0.2


def test_pictures_are_kept_by_the_browser(http: httpx.Client) -> None:
    address = candidate(http)["channels"][0]["ranges"]["full"]["whole"]
    answer = http.get(address)
    assert "immutable" in answer.headers["cache-control"]
    again = http.get(address, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    [
        "../secret.tif",
        "..%2Fsecret.tif",
        "candidates/../../secret.tif",
        "%2e%2e/secret.tif",
        "/etc/passwd",
        "//etc/passwd",
        "candidates%00.tif",
        "learning.db",
        "keys/store.key",
        "keys/store.key%00.tif",
        ".hidden.tif",
        "a/.hidden.tif",
        "link.tif",
        "folder-link/secret.tif",
        "candidates",
        "",
        "x" * 5000 + ".tif",
    ],
)
def test_only_pictures_of_the_store_are_given_out(http: httpx.Client, cell: tuple[Settings, str], path: str) -> None:
    root = cell[0].state_dir
    secret = root.parent / "secret.tif"
    digest = images.write_stack(secret, product.part(1))
    for link, target in ((root / "link.tif", secret), (root / "folder-link", root.parent)):
        if not link.is_symlink():
            link.symlink_to(target)
    answer = http.get(f"/pixels/{path}", params={"d": digest, "lo": 0, "hi": 4095})
    assert answer.status_code == 404
    assert answer.headers["content-type"] != "image/png"


def test_another_picture_than_was_stored_is_not_shown(http: httpx.Client, cell: tuple[Settings, str]) -> None:
    stack = product.part(9)
    file = cell[0].state_dir / "candidates" / "swapped.tif"
    digest = images.write_stack(file, stack)
    values = {"d": digest, "lo": "0", "hi": "4095", "c": "0"}
    assert http.get("/pixels/candidates/swapped.tif", params=values).status_code == 200
    images.write_stack(file.with_name("swapped2.tif"), product.foreign(stack))
    answer = http.get("/pixels/candidates/swapped2.tif", params=values)
    assert answer.status_code == 422
    assert "is not the one that was stored" in answer.json()["message"]
    file.with_name("torn.tif").write_bytes(file.read_bytes()[:2000])
    assert http.get("/pixels/candidates/torn.tif", params=values).status_code == 422
    wrong: list[dict[str, str]] = [
        {"lo": "9", "hi": "3"},
        {"c": "3"},
        {"c": "-1"},
        {"box": "0,0,9999,2"},
        {"box": "1,2"},
        {"lo": "x"},
    ]
    for change in wrong:
        assert http.get("/pixels/candidates/swapped.tif", params=values | change).status_code == 422, change


def test_a_large_body_and_a_wrong_one_are_refused(http: httpx.Client) -> None:
    headers = named(http)
    assert http.post("/api/reviewer", content=b"x" * (5 << 20), headers=headers).status_code == 400
    for content in (b"", b"[]", b"\xff", b"[" * 100_000):
        assert http.post("/api/reviewer", content=content, headers=headers).status_code == 400


def test_a_mask_that_does_not_fit_its_region_is_refused(http: httpx.Client) -> None:
    headers = named(http)
    seed = http.get("/api/seeds", params={"recipe": "cover", "state": "proposed"}).json()["seeds"][0]
    box = seed["crops"]["edit"]
    body = {"recipe": "cover", "seed_id": seed["seed_id"], "defect_class": "pit", "box": box}
    for mask in ("", "AAAA", "not base64!", 7):
        assert http.post("/api/seeds/confirm", json=body | {"mask": mask}, headers=headers).status_code == 422
    after = http.get("/api/seeds", params={"recipe": "cover", "state": "proposed"}).json()["seeds"]
    assert seed["seed_id"] in {s["seed_id"] for s in after}


def test_jobs_are_listed_and_unknown_ones_refused(http: httpx.Client) -> None:
    headers = named(http)
    assert http.get("/api/jobs").json() == {"jobs": []}
    for verb in ("cancel", "pause", "resume"):
        answer = http.post(f"/api/jobs/{verb}", json={"job_id": "t99999"}, headers=headers)
        assert answer.status_code == 404


def test_silent_services_are_named_with_the_way_out(tmp_path: Path) -> None:
    settings = cells.settings_in(tmp_path)
    with cells.pages(settings, timeout_s=0.1) as address, httpx.Client(base_url=address) as http:
        for url, unit in (("/api/live", "inspectd"), ("/api/jobs", "inspectd-trainer")):
            answer = http.get(url)
            assert answer.status_code == 503
            assert f"(systemctl status {unit})" in answer.json()["message"]
        assert http.get("/live").status_code == 200
