"""Models of every class in small: folders as `save_pretrained` writes them, weights drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AltCLIPTextConfig,
    AltCLIPVisionConfig,
    BertTokenizer,
    Blip2Config,
    Blip2ForImageTextRetrieval,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    BlipTextConfig,
    BlipVisionConfig,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessorPil,
    ChineseCLIPModel,
    ChineseCLIPTextConfig,
    ChineseCLIPVisionConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
    ViltConfig,
    ViltForImageAndTextRetrieval,
    ViltImageProcessorPil,
)

SIDE, PATCH, WIDTH = 32, 16, 16  # pixels, pixels, of every hidden state
POSITIONS = 16
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "black", "pink")
_SHAPES = ("ball", "box", "pyramid", "star", "heart", "moon")
VOCABULARY = (*SPECIALS, "a", "the", "is", "on", "of", "in", *_COLOURS, *_SHAPES)
LAYERS = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**LAYERS, "vocab_size": len(VOCABULARY), "max_position_embeddings": POSITIONS}
VISION = {**LAYERS, "image_size": SIDE, "patch_size": PATCH}
MARKS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SQUARE = {"size": {"height": SIDE, "width": SIDE}}


def _bert(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=POSITIONS).save_pretrained(folder)


def _marked(folder: Path) -> None:
    """Words between a first and a last mark, as CLIP's own tokenizer writes them."""
    from tokenizers.processors import TemplateProcessing

    words = Tokenizer(WordLevel({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    words.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", bos_token="[CLS]", eos_token="[SEP]"
    ).save_pretrained(folder)


def _clip(folder: Path) -> PreTrainedModel:
    _marked(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE["size"]).save_pretrained(folder)
    text, vision = CLIPTextConfig(**TEXT, **MARKS), CLIPVisionConfig(**VISION)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))


def _siglip(folder: Path) -> PreTrainedModel:
    _marked(folder)
    SiglipImageProcessorPil(**SQUARE).save_pretrained(folder)
    text, vision = SiglipTextConfig(**TEXT, **MARKS), SiglipVisionConfig(**VISION)
    return SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))


def _siglip2(folder: Path) -> PreTrainedModel:
    _marked(folder)
    Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=9).save_pretrained(folder)
    text = Siglip2TextConfig(**TEXT, **MARKS, projection_size=WIDTH)
    vision = Siglip2VisionConfig(**LAYERS, patch_size=PATCH, num_patches=9)
    return Siglip2Model(Siglip2Config(text_config=text.to_dict(), vision_config=vision.to_dict()))


def _chinese_clip(folder: Path) -> PreTrainedModel:
    _bert(folder)
    ChineseCLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE["size"]).save_pretrained(folder)
    text, vision = ChineseCLIPTextConfig(**TEXT, pad_token_id=0), ChineseCLIPVisionConfig(**VISION)
    return ChineseCLIPModel(
        ChineseCLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    )


def _alt_clip(folder: Path) -> PreTrainedModel:
    _bert(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE["size"]).save_pretrained(folder)
    text = AltCLIPTextConfig(**TEXT, **MARKS, project_dim=8)
    vision = AltCLIPVisionConfig(**VISION, projection_dim=8)
    return AltCLIPModel(AltCLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))


def _blip(folder: Path) -> PreTrainedModel:
    _bert(folder)
    BlipImageProcessorPil(**SQUARE).save_pretrained(folder)
    text = BlipTextConfig(**TEXT, **MARKS, sep_token_id=3, encoder_hidden_size=WIDTH)
    vision = BlipVisionConfig(**VISION)
    return BlipForImageTextRetrieval(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), image_text_hidden_size=8)
    )


def _blip2(folder: Path) -> PreTrainedModel:
    _bert(folder)
    BlipImageProcessorPil(**SQUARE).save_pretrained(folder)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**VISION).to_dict(),
        qformer_config=Blip2QFormerConfig(**TEXT, encoder_hidden_size=WIDTH, use_qformer_text_input=True).to_dict(),
        text_config=OPTConfig(
            hidden_size=WIDTH,
            ffn_dim=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            word_embed_proj_dim=WIDTH,
            vocab_size=len(VOCABULARY),
            max_position_embeddings=POSITIONS,
        ).to_dict(),
        num_query_tokens=4,
        image_text_hidden_size=8,
    )
    model = Blip2ForImageTextRetrieval(config)
    torch.nn.init.normal_(model.query_tokens)  # zeros until they are trained
    return model


def _vilt(folder: Path) -> PreTrainedModel:
    _bert(folder)
    ViltImageProcessorPil(size={"shortest_edge": SIDE}, size_divisor=PATCH).save_pretrained(folder)
    return ViltForImageAndTextRetrieval(ViltConfig(**TEXT, image_size=SIDE, patch_size=PATCH))


KINDS: Mapping[str, Callable[[Path], PreTrainedModel]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "chinese_clip": _chinese_clip,
    "altclip": _alt_clip,
    "blip": _blip,
    "blip-2": _blip2,
    "vilt": _vilt,
}


def save(kind: str, folder: Path, seed: int = 0) -> Path:
    """A folder with a model of that kind, far from the near-zero weights that models begin with."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = KINDS[kind](folder)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def pictures(count: int, sizes: Sequence[tuple[int, int]] = ((48, 36), (36, 48), (41, 41))) -> list[torch.Tensor]:
    """Random pictures, (3, H, W) uint8 each, of several shapes."""
    draw = torch.Generator().manual_seed(count)
    return [torch.randint(256, (3, *sizes[n % len(sizes)]), generator=draw, dtype=torch.uint8) for n in range(count)]
