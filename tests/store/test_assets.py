"""The records of assets."""

from dataclasses import replace

from comfydeploy_jupyter.compat.comfy_assets import Asset, AssetRepository
from comfydeploy_jupyter.store.database import Database

ASSET = Asset(
    id="8b9f",
    created_at="2026-11-27T12:00:00.000Z",
    machine="local",
    kind="output",
    subfolder="",
    filename="a.png",
    size=0,
    content_type="image/png",
)


async def test_adding_an_asset_again_changes_only_a_size_that_was_not_known(tmp_path):
    database = Database(tmp_path / "store.db")
    await database.open()
    try:
        repository = AssetRepository(database)
        await repository.add([ASSET])
        await repository.add([replace(ASSET, size=5, filename="b.png")])
        assert await repository.get(ASSET.id) == replace(ASSET, size=5)
        await repository.add([replace(ASSET, size=7)])
        assert await repository.get(ASSET.id) == replace(ASSET, size=5)
    finally:
        await database.close()
