"""Recipes come and go over the wire; what was judged by them stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from cell.errors import NotFound, StateError, StoreError
from tests.daemon.cells import eventually, running
from tests.daemon.rigs import recipe


def test_a_removed_recipe_is_gone_for_good_and_its_results_stay(tmp_path: Path) -> None:
    files = tmp_path / "recipes"
    with running(tmp_path, recipes=(recipe(), recipe("cover"))) as cell:
        cell.ready("cover")
        job = cell.trigger("good-1")["job_id"]
        assert eventually(lambda: cell.status()["archive"]["written"] == 1)
        with pytest.raises(StateError, match="recipe cover is prepared; UnprepareRecipe first"):
            cell.client.call("RemoveRecipe", {"RecipeId": "cover"})
        assert (files / "cover.json").exists()
        cell.client.call("PrepareRecipe", {"RecipeId": "plate"})
        (files / "cover.json").rename(files / "named-otherwise.json")
        (files / "half.json").write_text("{")
        removed = cell.client.call("RemoveRecipe", {"RecipeId": "cover"}, request_id="once")
        assert removed["Error"] == 0
        assert removed["InternalRecipeId"]["Hash"] == recipe("cover").record_digest()
        assert cell.client.call("RemoveRecipe", {"RecipeId": "cover"}, request_id="once") == removed
        assert {file.name for file in files.iterdir()} == {"plate.json", "half.json"}
        with pytest.raises(NotFound, match="there is no recipe cover"):
            cell.client.call("RemoveRecipe", {"RecipeId": "cover"})
        with pytest.raises(NotFound):
            cell.client.call("PrepareRecipe", {"RecipeId": "cover"})
        (files / "half.json").unlink()
    with running(tmp_path) as again:
        assert [one["RecipeId"] for one in again.client.call("GetRecipeListFiltered")["Recipes"]] == ["plate"]
        assert again.client.call("GetResultById", {"ResultId": job})["Result"]["ExternalRecipeId"]["Id"] == "cover"
        components = again.client.call("GetResultComponentsById", {"ResultId": job})["Components"]
        assert [one["Channel"] for one in components] == ["bright", "dark"]


def test_a_removed_recipe_comes_back_when_it_is_added(tmp_path: Path) -> None:
    with running(tmp_path, recipes=(recipe(), recipe("cover"))) as cell:
        cell.client.call("RemoveRecipe", {"RecipeId": "cover"})
        changed = recipe("cover", deadline_ms=900.0)
        with pytest.raises(StoreError, match="give the changed recipe version 2"):
            cell.client.call("AddRecipe", {"Recipe": changed.model_dump(mode="json")})
        cell.client.call("AddRecipe", {"Recipe": changed.model_copy(update={"version": 2}).model_dump(mode="json")})
        cell.client.call("AddRecipe", {"Recipe": recipe("cover").model_dump(mode="json")})
        found = {one["RecipeId"]: one["Version"] for one in cell.client.call("GetRecipeListFiltered")["Recipes"]}
        assert found == {"plate": 1, "cover": 2}
        cell.ready("cover")
