"""Writes the files of `cargo bench -p proxima-media --bench media` to target/media and times what
Pillow and qwen_vl_utils take for the same work, on one thread: `media_peer.py`."""

import io
import pathlib
import time

import numpy as np
from PIL import Image
from qwen_vl_utils import vision_process

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "target" / "media"
SIZES = [(640, 480), (1280, 720), (1000, 750), (4000, 3000)]
FORMATS = {"bmp": {}, "png": {}, "jpeg": {"quality": 90}}


def picture(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(width)
    small = random.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(small).resize((width, height))).astype(int)
    pixels += random.integers(-2, 3, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def best(work, times: int) -> float:
    found = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        work()
        found = min(found, time.perf_counter() - start)
    return found * 1000


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        image = picture(width, height)
        bounds = {"min_pixels": 4 * 32**2, "max_pixels": 1800 * 32**2}
        rows, columns = vision_process.smart_resize(height, width, 32, **bounds)
        alone = best(lambda: image.resize((columns, rows)), 15)
        print(f"{width} x {height} -> {columns} x {rows}: resized in {alone:.2f} ms")
        for format, options in FORMATS.items():
            path = FOLDER / f"{width}x{height}.{format}"
            image.save(path, **options)
            data = path.read_bytes()

            def work() -> None:
                opened = Image.open(io.BytesIO(data))
                vision_process.fetch_image({"image": opened, **bounds}, image_patch_size=16)

            print(f"  {path.name}: {best(work, 15):.2f} ms")


if __name__ == "__main__":
    main()
