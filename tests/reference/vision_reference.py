"""Qwen3-VL-Embedding and Qwen3-VL-Reranker as their authors run them, an item or a pair at a time, nothing padded.

The steps are those of `src/models/qwen3_vl_{embedding,reranker}.py` of QwenLM/Qwen3-VL-Embedding: a conversation from
the item, the checkpoint's chat template, `process_vision_info` with patches of 16, the processor without resizing, the
network, its last state.
"""

import pathlib
import unicodedata

import numpy
import torch
from qwen_vl_utils import process_vision_info
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

TOKEN_PIXELS = 32 * 32
PIXELS_MIN, PIXELS_MAX = 4 * TOKEN_PIXELS, 1800 * TOKEN_PIXELS
VIDEO_PIXELS_MAX = 10 * 768 * TOKEN_PIXELS
FRAMES_MAX = 64
REPRESENT = "Represent the user's input."
RETRIEVE = "Given a search query, retrieve relevant candidates that answer the query."
JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
LAST_KEPT = 5


def listed(value):
    return [] if value is None else value if isinstance(value, list) else [value]


def sampled(frames):
    """At most 64 frames, evenly spaced; places are rounded down."""
    if len(frames) <= FRAMES_MAX:
        return frames
    return [frames[place] for place in numpy.linspace(0, len(frames) - 1, FRAMES_MAX, dtype=int)]


def said(text):
    return {"type": "text", "text": text}


class Reference:
    """A checkpoint, and the folder that names of pictures are of."""

    def __init__(self, folder, pictures, dtype=torch.float32, attention="eager"):
        self.pictures = pathlib.Path(pictures).resolve()
        self.processor = Qwen3VLProcessor.from_pretrained(folder)
        self.language_model = Qwen3VLForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention
        ).eval()
        self.network = self.language_model.model
        self.tokenizer = self.processor.tokenizer

    def content(self, item):
        """Videos, images and texts of an item, in this order."""
        place = lambda name: f"file://{self.pictures / name}"  # noqa: E731
        videos = listed(item.get("video"))
        if videos and not isinstance(videos[0], list):
            videos = [videos]
        found = []
        for frames in videos:
            frames = [place(name) for name in sampled(frames)]
            found.append({"type": "video", "video": frames, "total_pixels": VIDEO_PIXELS_MAX})
        limits = {"min_pixels": PIXELS_MIN, "max_pixels": PIXELS_MAX}
        found += [{"type": "image", "image": place(name), **limits} for name in listed(item.get("image"))]
        found += [said(text) for text in listed(item.get("text"))]
        return found or [said("NULL")]

    def item(self, item):
        """The conversation of an item to embed."""
        instruction = (item.get("instruction") or "").strip()
        if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
            instruction += "."
        return [
            {"role": "system", "content": [said(instruction or REPRESENT)]},
            {"role": "user", "content": self.content(item)},
        ]

    def pair(self, query, document, instruction):
        """The conversation of a document to judge."""
        asked = [said("<Instruct>: " + (instruction or RETRIEVE))]
        asked += [said("<Query>:"), *self.content(query), said("\n<Document>:"), *self.content(document)]
        return [{"role": "system", "content": [said(JUDGE)]}, {"role": "user", "content": asked}]

    def inputs(self, conversations, **options):
        """What the network is given."""
        text = self.processor.apply_chat_template(conversations, add_generation_prompt=True, tokenize=False)
        images, videos, video_options = process_vision_info(
            conversations, image_patch_size=16, return_video_metadata=True, return_video_kwargs=True
        )
        metadata = None
        if videos is not None:
            videos, metadata = (list(part) for part in zip(*videos))
        given = {"images": images, "videos": videos, "video_metadata": metadata}
        return self.processor(text=text, **given, do_resize=False, **options, **video_options)

    def embedding_inputs(self, items, tokens_max=8192):
        options = {"truncation": True, "max_length": tokens_max, "padding": True, "return_tensors": "pt"}
        return self.inputs([self.item(item) for item in items], **options)

    def score_inputs(self, query, document, instruction, tokens_max=10240):
        inputs = self.inputs([self.pair(query, document, instruction)], truncation=False, padding=False)
        tokens = inputs["input_ids"][0]
        tokens = self.cut(tokens[:-LAST_KEPT], tokens_max) + tokens[-LAST_KEPT:]
        inputs["input_ids"] = torch.tensor([tokens])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return inputs

    def cut(self, tokens, tokens_max):
        """The special tokens, and of the others the first that there is room for."""
        if len(tokens) <= tokens_max:
            return tokens
        special = set(self.tokenizer.all_special_ids)
        room = tokens_max - sum(token in special for token in tokens)
        kept = []
        for token in tokens:
            if token not in special:
                room -= 1
                if room < 0:
                    continue
            kept.append(token)
        return kept

    @torch.no_grad()
    def states(self, inputs):
        """Last states of the sequences, which are padded at their end."""
        found = self.network(**inputs, use_cache=False).last_hidden_state
        last = inputs["attention_mask"].sum(1) - 1
        return found[torch.arange(len(found)), last]

    def embed(self, items, **options):
        return torch.nn.functional.normalize(self.states(self.embedding_inputs(items, **options)), dim=-1)

    def logit(self, inputs):
        """How much more the answer is yes than no."""
        vocabulary, head = self.tokenizer.get_vocab(), self.language_model.lm_head.weight.detach()
        answer = head[vocabulary["yes"]].double() - head[vocabulary["no"]].double()
        return float(answer @ self.states(inputs)[0].double())

    def positions(self, inputs):
        """Times, rows and columns of the one sequence's tokens."""
        given = {name: inputs.get(name) for name in ["image_grid_thw", "video_grid_thw", "attention_mask"]}
        return self.network.get_rope_index(inputs["input_ids"], **given)[0][:, 0].tolist()
