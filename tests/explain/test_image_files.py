"""Which files a command reads and what it calls its own."""

from vit_jax_xfer.explain.image_files import find_images, picture_names


def test_pictures_are_called_as_the_files_are(tmp_path):
    """Links too: what they lead to may be called by anything, as in a store."""
    store, photos = tmp_path / "store", tmp_path / "photos"
    for folder in (store, photos / "cat", photos / "dog"):
        folder.mkdir(parents=True)
    for number, name in enumerate(("cat/1.png", "dog/1.png", "2.png", "dog/2.PNG")):
        (store / f"{number}f3c").touch()
        (photos / name).symlink_to(store / f"{number}f3c")
    files = find_images([photos])
    names = [str(file.relative_to(photos)) for file in files]
    assert names == ["2.png", "cat/1.png", "dog/1.png", "dog/2.PNG"]
    assert picture_names(files) == ["2.png", "cat_1.png", "dog_1.png", "dog_2.PNG"]
    assert picture_names([photos / "2.png", photos / "cat/1.png"]) == ["2", "1"]


def test_many_files_have_names_at_once(tmp_path):
    folders = [tmp_path / str(number) for number in range(300)]
    files = [folder / f"{number}.png" for folder in folders for number in range(200)]
    assert len(set(picture_names(files))) == len(files)
