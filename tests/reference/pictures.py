"""Pictures of the goldens: seeded, made of smooth surfaces and shapes, in every format and layout of pixels.

    make(folder)    writes them, the same pixels every time; the bytes are those of the installed Pillow

They are few and small, for they are kept with the sources.
"""

import numpy
from PIL import Image, ImageDraw


def surface(width, height, seed, step=4):
    """Waves in three colours with shapes on them; levels are `step` apart, so that PNG packs them well."""
    rng = numpy.random.default_rng(seed)
    y, x = numpy.mgrid[0:height, 0:width]
    y, x = y / max(height, 2), x / max(width, 2)
    planes = []
    for _ in range(3):
        a, b, c, d = rng.uniform(0.5, 4, 4)
        wave = numpy.sin(a * 3 * x + b * 2 * y + c) * 0.6 + numpy.cos(d * 4 * x * y + a) * 0.4
        planes.append((wave + 1) * 127.5)
    values = numpy.round(numpy.stack(planes, -1) / step) * step
    picture = Image.fromarray(values.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(picture)
    for place in range(7):
        left, top = rng.uniform(0, 0.8, 2) * (width, height)
        right, bottom = left + rng.uniform(0.05, 0.4) * width, top + rng.uniform(0.05, 0.4) * height
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = [draw.ellipse, draw.rectangle][place % 2]
        shape([left, top, right, bottom], fill=colour, outline=(0, 0, 0))
    for _ in range(5):
        ends = rng.uniform(0, 1, 4) * (width, height, width, height)
        draw.line(list(ends), fill=tuple(int(value) for value in rng.integers(0, 256, 3)), width=1 + width // 200)
    return picture


def flat(width, height, seed):
    """Shapes on one colour, for pictures that are large."""
    rng = numpy.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), (210, 190, 40))
    draw = ImageDraw.Draw(picture)
    for place in range(24):
        left, top = rng.uniform(0, 0.9, 2) * (width, height)
        right, bottom = left + rng.uniform(0.02, 0.3) * width, top + rng.uniform(0.02, 0.3) * height
        shape = [draw.ellipse, draw.rectangle][place % 2]
        shape([left, top, right, bottom], fill=tuple(int(value) for value in rng.integers(0, 256, 3)))
    return picture


def alpha(width, height):
    """Opacity that rises from left to right, with a hole."""
    ramp = numpy.tile(numpy.linspace(0, 255, width).astype("uint8"), (height, 1))
    mask = Image.fromarray(ramp)
    ImageDraw.Draw(mask).ellipse([width // 4, height // 4, width // 2, height // 2], fill=0)
    return mask


def sixteen_bits(width, height):
    y, x = numpy.mgrid[0:height, 0:width]
    values = (x * 65535 // (width - 1) * 3 + y * 401) % 65536
    return Image.fromarray(values.astype("uint16"))


def turned():
    """A JPEG whose EXIF asks for a quarter turn, which the reference does not make."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pictures():
    """Name, picture and options of saving."""
    clear = surface(200, 150, 13)
    clear.putalpha(alpha(200, 150))
    grey_clear = surface(120, 90, 14).convert("L")
    grey_clear.putalpha(alpha(120, 90))
    palette = surface(160, 120, 15, 16).quantize(48)
    found = [
        ("small.png", surface(96, 64, 1), {}),
        ("photo.png", surface(640, 480, 2, 8), {}),
        ("tall.png", surface(40, 600, 3), {}),
        ("wide.png", surface(900, 50, 4), {}),
        ("tiny.png", surface(5, 7, 5, 1), {}),
        ("dot.png", Image.new("RGB", (1, 1), (200, 30, 90)), {}),
        ("stick.png", surface(3, 200, 6), {}),
        ("exact.png", surface(128, 96, 7), {}),
        ("odd.png", surface(333, 211, 8), {}),
        ("large.png", flat(2400, 1600, 9), {}),
        ("grey.png", surface(150, 100, 10).convert("L"), {}),
        ("bilevel.png", surface(100, 80, 11).convert("1"), {}),
        ("sixteen.png", sixteen_bits(120, 80), {}),
        ("clear.png", clear, {}),
        ("grey-clear.png", grey_clear, {}),
        ("palette.png", palette, {}),
        ("palette-clear.png", palette, {"transparency": 3}),
        ("colour-key.png", Image.new("RGB", (64, 96), (10, 200, 30)), {"transparency": (10, 200, 30)}),
        ("half.jpg", surface(320, 240, 20, 1), {"quality": 85, "subsampling": "4:2:0"}),
        ("odd-half.jpg", surface(201, 133, 21, 1), {"quality": 75, "subsampling": "4:2:0"}),
        ("wide-half.jpg", surface(160, 128, 22, 1), {"quality": 80, "subsampling": "4:2:2"}),
        ("full.jpg", surface(256, 192, 23, 1), {"quality": 92, "subsampling": "4:4:4"}),
        ("progressive.jpg", surface(192, 128, 24, 1), {"quality": 80, "progressive": True}),
        ("grey.jpg", surface(150, 110, 25, 1).convert("L"), {"quality": 85}),
        ("cmyk.jpg", surface(140, 100, 26, 1).convert("CMYK"), {"quality": 85}),
        ("turned.jpg", surface(128, 64, 27, 1), {"quality": 85, "exif": turned()}),
        ("lossy.webp", surface(200, 140, 30, 1), {"quality": 80}),
        ("lossless.webp", surface(120, 120, 31), {"lossless": True}),
        ("clear.webp", clear.resize((100, 75)), {"lossless": True}),
        ("plain.bmp", surface(70, 50, 32), {}),
        ("plain.gif", surface(130, 90, 33, 16).quantize(32), {}),
    ]
    found += [(f"frame{n}.jpg", surface(64, 48, 40 + n, 1), {"quality": 85}) for n in range(5)]
    found += [(f"big{n}.png", flat(640, 360, 50 + n), {}) for n in range(2)]
    return found


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture, options in pictures():
        picture.save(folder / name, optimize=name.endswith(".png"), **options)
    moving = [surface(90, 60, 60 + n, 16).quantize(16) for n in range(3)]
    moving[0].save(folder / "moving.gif", save_all=True, append_images=moving[1:], duration=100)
    return sorted(path.name for path in folder.iterdir())
