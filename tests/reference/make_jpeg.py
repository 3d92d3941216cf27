"""Writes tests/golden/media/jpeg: small JPEG files of every kind, and what Pillow makes of them.

`pixels.txt` names of each file its width, its height and the SHA-256 of its RGB as Pillow decodes
it. Pillow writes chroma at full, half and quarter size only; other kinds are made by relabelling
what it writes, which scrambles the picture and leaves the file sound. Run it with Pillow and numpy.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[1] / "golden" / "media" / "jpeg"


def surface(width: int, height: int, layers: int = 3) -> np.ndarray:
    """Waves, an edge and noise, so that every coefficient is used."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        127 + 80 * np.sin(x * (0.1 + 0.07 * n) + n) + 50 * np.cos(y * (0.13 + 0.05 * n))
        for n in range(layers)
    ]
    noise = np.random.default_rng(width * height).normal(0, 15, (height, width, layers))
    picture = np.stack(waves, -1) + noise
    picture[height // 3 : height // 2, width // 4 : width // 2] = 40
    return np.clip(picture, 0, 255).astype(np.uint8)


def written(picture: np.ndarray, mode: str = "RGB", **settings) -> bytes:
    buffer = io.BytesIO()
    pixels = picture[:, :, 0] if mode == "L" else picture
    Image.fromarray(np.ascontiguousarray(pixels), mode).save(buffer, "JPEG", **settings)
    return buffer.getvalue()


def relabelled(file: bytes, factors: int, width: int, height: int) -> bytes:
    """The same blocks under other sampling factors of luma and another size."""
    at = file.index(b"\xff\xc0")
    head = bytearray(file)
    head[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    head[at + 11] = factors
    return bytes(head)


def with_transform(file: bytes, transform: int) -> bytes:
    """The same file under another colour transform of Adobe's marker."""
    at = file.index(b"Adobe")
    return file[: at + 11] + bytes([transform]) + file[at + 12 :]


def files() -> dict[str, bytes]:
    found = {}
    for name, subsampling in [("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0")]:
        for width, height in [(1, 1), (2, 3), (17, 19), (33, 31), (70, 45)]:
            for kind in ("base", "steps"):
                found[f"{name}-{width}x{height}-{kind}"] = written(
                    surface(width, height),
                    subsampling=subsampling,
                    quality=85,
                    progressive=kind == "steps",
                )
    for quality in (5, 50, 100):
        found[f"420-quality-{quality}"] = written(
            surface(45, 37), subsampling="4:2:0", quality=quality, optimize=True
        )
    found["420-restarts"] = written(
        surface(50, 35), subsampling="4:2:0", quality=80, restart_marker_blocks=2
    )
    # Blocks of 16 x 8 become 8 x 16; of 16 x 16, 32 x 8 and 8 x 32: as many of them.
    half = written(surface(17, 19), subsampling="4:2:2", quality=90)
    found["440-19x17"] = relabelled(half, 0x12, 19, 17)
    quarter = written(surface(33, 17), subsampling="4:2:0", quality=90)
    found["411-35x19"] = relabelled(quarter, 0x41, 35, 19)
    found["tall-quarter-19x35"] = relabelled(quarter, 0x14, 19, 35)
    found["grey"] = written(surface(29, 23, 1), "L", quality=85)
    found["grey-steps"] = written(surface(29, 23, 1), "L", quality=85, progressive=True)
    found["rgb"] = written(surface(29, 23), quality=85, keep_rgb=True)
    inks = written(surface(29, 23, 4), "CMYK", quality=85, subsampling="4:2:0")
    found["cmyk"] = inks
    found["ycck"] = with_transform(inks, 2)
    return found


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, file in files().items():
        (OUT / f"{name}.jpg").write_bytes(file)
        picture = Image.open(io.BytesIO(file)).convert("RGB")
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        lines.append(f"{name} {picture.width} {picture.height} {digest}\n")
    (OUT / "pixels.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
