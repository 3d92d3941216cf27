"""Images a second of Qwen3-VL-Embedding in PyTorch on the CPU, by its authors' pipeline.

    vision_peer.py CHECKPOINT [--threads 2] [--dtype bfloat16] [--repeat 3] [--batches 1 4] [--sizes 640x480 1280x720]

Needs tests/reference/requirements.txt. Pictures are JPEG files, made from a seed. Prints, for each size and batch, the
medians of what it takes to prepare a batch (decode, resize, cut into patches, tokenise), to run the network, and of
images a second from file to vector.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/reference"))


def pictures_of(folder, size, count):
    """Names of different pictures of a size."""
    import pictures

    width, height = (int(side) for side in size.split("x"))
    names = [f"{size}-{place}.jpg" for place in range(count)]
    for place, name in enumerate(names):
        pictures.surface(width, height, 1000 + place, 1).save(folder / name, quality=90)
    return names


def measured(reference, names, repeat):
    """Seconds of preparing and of the network, each time."""
    import torch

    items, prepare, network = [{"image": name} for name in names], [], []
    for turn in range(repeat + 1):
        start = time.perf_counter()
        inputs = reference.embedding_inputs(items)
        middle = time.perf_counter()
        torch.nn.functional.normalize(reference.states(inputs).float(), dim=-1)
        end = time.perf_counter()
        if turn:  # The first run warms up.
            prepare.append(middle - start)
            network.append(end - middle)
    return inputs["input_ids"].shape[1], prepare, network


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720"])
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch
    from vision_reference import Reference

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        start = time.perf_counter()
        reference = Reference(arguments.checkpoint, folder, getattr(torch, arguments.dtype), "sdpa")
        print(f"loaded in {time.perf_counter() - start:.1f} s; torch {torch.__version__}, {arguments.threads} threads")
        print("| pictures | batch | tokens each | prepare, ms a picture | network, s a batch | images/s | load |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for size in arguments.sizes:
            names = pictures_of(folder, size, max(arguments.batches))
            for batch in arguments.batches:
                tokens, prepare, network = measured(reference, names[:batch], arguments.repeat)
                total = statistics.median(map(sum, zip(prepare, network)))
                each = statistics.median(prepare) / batch * 1000
                row = [size, batch, tokens, f"{each:.1f}", f"{statistics.median(network):.2f}"]
                row += [f"{batch / total:.3f}", f"{os.getloadavg()[0]:.1f}"]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
